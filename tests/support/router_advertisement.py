"""Router advertisements, as any host on a link can send them (RFC 4861, RFC 4191)."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.lab.host import Host

_ALL_NODES = "ff02::1"
_HIGH_PREFERENCE = 0x08
_ON_LINK_AND_AUTONOMOUS = 0xC0


def _prefix(network: str, lifetime_s: int) -> bytes:
    """A network that is said to be on the link, and of which hosts make themselves an address."""
    prefix = IPv6Network(network)
    head = struct.pack("!BBBB", 3, 4, prefix.prefixlen, _ON_LINK_AND_AUTONOMOUS)
    return head + struct.pack("!III", lifetime_s, lifetime_s, 0) + prefix.network_address.packed


def _route(network: str, lifetime_s: int) -> bytes:
    route = IPv6Network(network)
    head = struct.pack("!BBBB", 24, 3, route.prefixlen, _HIGH_PREFERENCE)
    return head + struct.pack("!I", lifetime_s) + route.network_address.packed


def advertise(
    host: Host,
    device: str,
    *,
    prefixes: Iterable[str] = (),
    routes: Iterable[str] = (),
    lifetime_s: int = 600,
) -> None:
    """Send one: a default router of high preference, networks on the link, and routes."""
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, _HIGH_PREFERENCE, lifetime_s, 0, 0)
    message += b"".join(_prefix(each, lifetime_s) for each in prefixes)
    message += b"".join(_route(each, lifetime_s) for each in routes)
    index = host.inside(lambda: socket.if_nametoindex(device))
    raw = host.inside(
        lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    )
    with raw as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sender.sendto(message, (_ALL_NODES, 0, 0, index))
