"""A device that is pushed to, on a kernel of dictionaries."""

from __future__ import annotations

import contextlib
import dataclasses
from ipaddress import ip_address, ip_interface, ip_network
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from fastun.config.settings import Options, Settings, load
from fastun.host.pushed import AppliedPush
from fastun.host.routes import HostRoutes
from fastun.host.routing_rules import FIRST_MARK
from fastun.peers.peer import Peer

if TYPE_CHECKING:
    from fastun.host.journal import Journal

MARK = FIRST_MARK
# One that records nothing.
JOURNAL = cast("Journal", SimpleNamespace(changing=lambda _: contextlib.nullcontext()))


def settings(*allowed: str, **fields: Any) -> Settings:
    plain = load("connect", "tcp://203.0.113.1", Options(wire="plain", insecure=True))
    fields = {"endpoints": (), "mtu": 1420, "fwmark": MARK, "accept": ("routes",)} | fields
    server = Peer(name="server", public_key=bytes(32), allowed_ips=tuple(map(ip_network, allowed)))
    return dataclasses.replace(plain, interface="ft0", peers=(server,), **fields)


class Client:
    """A device that is pushed to."""

    def __init__(self, *allowed: str, **fields: Any) -> None:
        its = settings(*allowed, **fields)
        self._pushed = AppliedPush("ft0", its, HostRoutes("ft0", its, JOURNAL))

    def push(
        self, *routes: str, addresses: tuple[str, ...] = (), mtu: int = 0, outer: str = ""
    ) -> int:
        return self._pushed.replace(
            list(map(ip_interface, addresses)),
            list(map(ip_network, routes)),
            mtu,
            {ip_address(outer)} if outer else set(),
        )
