"""The networks that this host is in, by its addresses, and whether they are behind a router.

By addresses and not by routes: a DHCP server can hand out any route (option 121, "TunnelVision"),
but the network of an address is one that this host is in.
"""

from __future__ import annotations

import contextlib
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from fastun.host.kernel import Kernel
from fastun.host.kill_switch_rules import LocalNetwork, is_private
from fastun.host.rtnetlink import RTA_GATEWAY, RouteQuestions

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastun.host.outer_addresses import OuterAddress
    from fastun.peers.peer import Network

# Of each half of all addresses one for documentation, or none that a host has: default routes come
# whole, and as 0.0.0.0/1 and 128.0.0.0/1.
_AWAY: Final = (
    *(IPv4Address("100.64.0.1"), IPv4Address("203.0.113.1")),
    *(IPv6Address("2001:db8::1"), IPv6Address("a000::1")),
)
_LOOPBACK_INDEX: Final = 1  # net/core/dev.c: in each network namespace


def read(device: str, mark: int, outer: Collection[OuterAddress]) -> tuple[LocalNetwork, ...]:
    """Return the private networks of all interfaces but ``device`` and loopback.

    An interface ``has_router`` if a default route, or our own packets to ``outer``, leave by it.
    Not on the event loop's thread. Raises OSError.
    """
    with Kernel(0) as kernel:
        addresses = kernel.addresses()
    found: dict[int, set[Network]] = {}
    for each in addresses:
        if each.index != _LOOPBACK_INDEX and is_private(each.peer.network):
            found.setdefault(each.index, set()).add(each.peer.network)
    with RouteQuestions(mark) as questions:
        ways = _ways(questions, outer)
        return tuple(
            LocalNetwork(name, network, index in ways or _has_default(questions, index))
            for index, networks in sorted(found.items())
            if (name := _name(index)) not in ("", device)
            for network in sorted(networks, key=str)
        )


def _ways(questions: RouteQuestions, outer: Collection[OuterAddress]) -> set[int]:
    ways: set[int] = set()
    for address in outer:
        with contextlib.suppress(OSError):  # no route
            ways.update(questions.ask(address).interfaces())
    return ways


def _has_default(questions: RouteQuestions, index: int) -> bool:
    for address in _AWAY:
        with contextlib.suppress(OSError):
            if RTA_GATEWAY in questions.ask(address, interface=index).attributes:
                return True
    return False


def _name(index: int) -> str:
    with contextlib.suppress(OSError):  # it has just gone
        return socket.if_indextoname(index)
    return ""
