"""What is measured, as data: each case's name, what it needs on PATH, and how it is brought up."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.tunnel.addresses import INNER, OUTER, Ends
from bench.tunnel.pair import Pair
from bench.tunnel.programs import fastd, fastun, openvpn, relay, tinc, wireguard_go

if TYPE_CHECKING:
    from collections.abc import Callable

BASELINE, OURS, PEER = "baseline", "fastun", "peer"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure. `kind` says what its figures are compared as."""

    name: str
    title: str
    kind: str
    start: Callable[[Pair], None]
    programs: tuple[str, ...] = ()
    addresses: Ends = INNER

    def absent_programs(self) -> list[str]:
        """Return the programs that this machine lacks for the case."""
        return [program for program in self.programs if shutil.which(program) is None]


def _nothing(_pair: Pair) -> None:
    """Leave the wire as it is."""


# fmt: off
CASES: tuple[Case, ...] = (
    Case("veth", "bare veth", BASELINE, _nothing, addresses=OUTER),
    Case("fastun-plain", "fastun, plain TCP", OURS, partial(fastun.start, wire="plain")),
    Case("fastun-tcp", "fastun, secure TCP", OURS, partial(fastun.start, wire="wireguard")),
    Case("fastun-udp", "fastun, secure UDP", OURS,
         partial(fastun.start, wire="wireguard", scheme="udp")),
    Case("fastun-udp-tap", "fastun, secure UDP, TAP", OURS,
         partial(fastun.start, wire="wireguard", scheme="udp", mode="tap")),
    Case("fastun-simpletun", "fastun, simpletun wire", OURS,
         partial(fastun.start, wire="simpletun")),
    Case("relay", "bare relay, TCP", BASELINE, relay.start, (relay.COMPILER,)),
    Case("wireguard-go", "wireguard-go", PEER, wireguard_go.start, ("wireguard-go", "wg")),
    Case("openvpn-udp", "OpenVPN, UDP", PEER, partial(openvpn.start, protocol="udp"),
         ("openvpn",)),
    Case("openvpn-tcp", "OpenVPN, TCP", PEER, partial(openvpn.start, protocol="tcp"),
         ("openvpn",)),
    Case("fastd", "fastd", PEER, fastd.start, ("fastd",)),
    Case("tinc", "tinc", PEER, tinc.start, ("tincd",)),
)
# fmt: on
