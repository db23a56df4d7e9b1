"""A device that is pushed to, on a kernel of dictionaries."""

from __future__ import annotations

import contextlib
import dataclasses
from ipaddress import ip_address, ip_interface, ip_network
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from fastun.config.settings import Options, Settings, load
from fastun.host.reconcile import Reconciler
from fastun.host.refusal_log import RefusalLog
from fastun.host.routing.outer_addresses import of_settings
from fastun.host.routing.routing_rules import FIRST_MARK
from fastun.host.wanted import Wanted
from fastun.peers.peer import Peer
from tests.support.fake_kernel import FT0

if TYPE_CHECKING:
    from fastun.host.journal.journal import Journal

MARK = FIRST_MARK
# One that records nothing.
JOURNAL = cast("Journal", SimpleNamespace(changing=lambda _: contextlib.nullcontext()))


def settings(*allowed: str, **fields: Any) -> Settings:
    plain = load("connect", "tcp://203.0.113.1", Options(wire="plain", insecure=True))
    fields = {"endpoints": (), "mtu": 1420, "fwmark": MARK, "accept": ("routes",)} | fields
    server = Peer(name="server", public_key=bytes(32), allowed_ips=tuple(map(ip_network, allowed)))
    return dataclasses.replace(plain, interface="ft0", **({"peers": (server,)} | fields))


class Client:
    """A device that is pushed to, on a kernel of dictionaries."""

    def __init__(self, *allowed: str, **fields: Any) -> None:
        self._settings = settings(*allowed, **fields)
        self._reconciler = Reconciler(FT0, self._settings, JOURNAL)
        self._refusals = RefusalLog("ft0")

    def push(
        self, *routes: str, addresses: tuple[str, ...] = (), mtu: int = 0, outer: str = ""
    ) -> int:
        """Apply a push beside the configuration; return the MTU."""
        its = self._settings
        configured = [network for peer in its.peers for network in peer.allowed_ips]
        in_use = {ip_address(outer)} if outer else set()
        applied = self._reconciler.apply(
            Wanted(
                mtu=its.mtu,
                addresses=its.addresses,
                routes=() if its.table == "off" else tuple(configured),
                pushed_addresses=tuple(map(ip_interface, addresses)),
                pushed_routes=tuple(map(ip_network, routes)),
                pushed_mtu=mtu,
                outer=frozenset(of_settings(its)[0] | in_use),
            )
        )
        self._refusals.say(applied.refused)
        self.refused = applied.refused
        self.made = applied.made
        return applied.mtu
