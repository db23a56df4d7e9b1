"""The private networks that this host is in, by its addresses, and which of them are within it.

By addresses and not by routes: a DHCP server can hand out any route (option 121, "TunnelVision"),
but an address has only the network that it is in.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

from fastun.host.firewall.kill_switch_rules import LocalNetwork, is_private
from fastun.host.netlink.kernel import Kernel
from fastun.host.netlink.netlink import Netlink
from fastun.host.netlink.rtnetlink import RTA_GATEWAY, RouteQuestions, attributes_of, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.host.routing.outer_addresses import OuterAddress
    from fastun.peers.peer import Network

_RTM_GETLINK: Final = 18
_IFINFO: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFLA_MASTER, _IFLA_LINKINFO, _IFLA_INFO_KIND = 10, 18, 1

# What connects containers and virtual machines. An interface of hardware has no kind, and one on
# top of it (vlan, macvlan, wireguard) is as good as an uplink.
_WITHIN: Final = (b"bridge", b"veth", b"tun")

# Of each half of all addresses one that no host has: default routes come whole, and in halves.
_AWAY: Final = (
    *(IPv4Address("100.64.0.1"), IPv4Address("203.0.113.1")),
    *(IPv6Address("2001:db8::1"), IPv6Address("a000::1")),
)
_LOOPBACK_INDEX: Final = 1  # net/core/dev.c: in each network namespace


class _Link(NamedTuple):
    kind: bytes
    master: int  # the index of the bridge that it is a port of, 0 for none


def read(device: str, mark: int, outer: Iterable[OuterAddress]) -> tuple[LocalNetwork, ...]:
    """Return the private networks of all interfaces but ``device`` and loopback.

    An uplink is never within this host: what has a default route, or leads to ``outer``, where our
    own packets go. Not on the event loop's thread. Raises OSError.
    """
    with Kernel(0) as kernel:
        addresses = kernel.addresses()
    found: dict[int, set[Network]] = {}
    for each in addresses:
        if each.index != _LOOPBACK_INDEX and is_private(each.peer.network):
            found.setdefault(each.index, set()).add(each.peer.network)
    within = _within(found, mark, outer)
    return tuple(
        LocalNetwork(name, network, index in within)
        for index, networks in sorted(found.items())
        if (name := _name(index)) not in ("", device)
        for network in sorted(networks, key=str)
    )


def _within(indices: Iterable[int], mark: int, outer: Iterable[OuterAddress]) -> set[int]:
    links = _links()
    virtual = [index for index in indices if _is_virtual(index, links)]
    if not virtual:
        return set()
    with RouteQuestions(mark) as questions:
        ways = _ways(questions, outer)
        return {each for each in virtual if each not in ways and not _leads_away(questions, each)}


def _links() -> dict[int, _Link]:
    found = {}
    with Netlink() as netlink:
        for body in netlink.dump(_RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
            attributes = dict(attributes_of(body[_IFINFO.size :]))
            info = dict(attributes_of(attributes.get(_IFLA_LINKINFO, b"")))
            kind = info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0")
            master = number(attributes.get(_IFLA_MASTER, b""))
            found[_IFINFO.unpack_from(body)[2]] = _Link(kind, master)
    return found


def _is_virtual(index: int, links: dict[int, _Link]) -> bool:
    """Return whether an interface, and all ports of a bridge, are within this host."""
    its = [links[index]] if index in links else []
    its += [link for link in links.values() if link.master == index]
    return bool(its) and all(link.kind in _WITHIN for link in its)


def _ways(questions: RouteQuestions, outer: Iterable[OuterAddress]) -> set[int]:
    ways: set[int] = set()
    for address in outer:
        with contextlib.suppress(OSError):  # no route
            ways.update(questions.ask(address).interfaces())
    return ways


def _leads_away(questions: RouteQuestions, index: int) -> bool:
    for address in _AWAY:
        with contextlib.suppress(OSError):
            if RTA_GATEWAY in questions.ask(address, interface=index).attributes:
                return True
    return False


def _name(index: int) -> str:
    with contextlib.suppress(OSError):  # it has just gone
        return socket.if_indextoname(index)
    return ""
