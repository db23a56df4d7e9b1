"""What the kernel has of a device, and what it is asked to change: links, addresses, routes.

One dump for each kind, however many there are, and changes in bulk. Source: rtnetlink(7),
linux/rtnetlink.h, linux/if_addr.h, linux/if_link.h, linux/fib_rules.h.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import msgspec

from fastun.host.netlink.netlink import CREATE_NEW, Fault, Message, Netlink
from fastun.host.netlink.rtnetlink import (
    RTA_MULTIPATH,
    RTA_OIF,
    RTM_GETROUTE,
    RTMSG,
    attribute,
    attributes_of,
    next_hops,
    number,
)
from fastun.host.routing.rule_kinds import FAMILIES, MAIN_TABLE, PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastun.peers.peer import Address, Network

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25

_IFINFO: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_U32: Final = struct.Struct("=I")

_IFF_UP: Final = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_AF_SPEC = 3, 4, 10, 26
_IFLA_INET6_ADDR_GEN_MODE: Final = 8
GEN_MODE_NONE: Final = 1  # IN6_ADDR_GEN_MODE_NONE
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_PROTO = 1, 2, 8, 11
_NO_PREFIX_ROUTE: Final = 0x200
_RTA_DST, _RTA_PRIORITY, _RTA_TABLE = 1, 6, 15
_RTM_F_CLONED: Final = 0x200
_UNICAST: Final = 1
_LOCAL_TABLE: Final = 255
_WIDTHS: Final = {4: 32, 6: 128}  # bits of an address
_VERSIONS: Final = {int(family): version for version, family in FAMILIES.items()}


class Place(NamedTuple):
    """A route of the device: its prefix and its table."""

    network: Network
    table: int


class Link(msgspec.Struct, frozen=True):
    """The device; `mtu` in bytes."""

    name: str
    mtu: int
    is_up: bool
    master: int = 0  # the index of the bridge that it is a port of


class FoundAddress(msgspec.Struct, frozen=True):
    """An address of any interface; `is_ours`: it says that fastun made it (Linux 5.18)."""

    index: int
    local: Address
    peer: Address  # the other end's on a point-to-point link, else as `local`
    has_route: bool
    is_ours: bool


class FoundRoute(msgspec.Struct, frozen=True):
    """A route; `indices` of the interfaces that it leaves by, 0 for one that the kernel answers."""

    place: Place
    indices: frozenset[int]
    is_ours: bool


class SetLink(msgspec.Struct, frozen=True):
    """A change of the device: its MTU in bytes, that it is up, or a port of a bridge."""

    mtu: int = 0
    is_up: bool = False
    master: int = 0


class SetAddress(msgspec.Struct, frozen=True):
    """An address to add, or to remove; with a route to its network, or without."""

    address: Address
    has_route: bool = True
    is_removal: bool = False


class SetRoute(msgspec.Struct, frozen=True):
    """A route to add, or to remove; a metric of 0 is the kernel's own choice."""

    place: Place
    is_removal: bool = False
    metric: int = 0


Step = SetLink | SetAddress | SetRoute


class Kernel:
    """Of one device, by its index. One thread at a time; use as a context manager."""

    def __init__(self, index: int) -> None:
        """Open a socket in this thread's network namespace. Raises OSError."""
        self._index = index
        self._netlink = Netlink()
        self._of_device = attribute(RTA_OIF, _U32.pack(index))

    def __enter__(self) -> Self:  # noqa: D105
        self._netlink.__enter__()
        return self

    def __exit__(self, *error: object) -> None:  # noqa: D105
        self._netlink.__exit__(*error)

    # -- what is there --------------------------------------------------------------------------

    def link(self) -> Link:
        """Return the device. Raises OSError when it is gone."""
        for body in self._netlink.dump(_RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
            _, _, index, flags, _ = _IFINFO.unpack_from(body)
            if index == self._index:
                found = dict(attributes_of(body[_IFINFO.size :]))
                name = found[_IFLA_IFNAME].rstrip(b"\0").decode()
                master = number(found[_IFLA_MASTER]) if _IFLA_MASTER in found else 0
                return Link(name, number(found[_IFLA_MTU]), bool(flags & _IFF_UP), master)
        raise OSError(errno.ENODEV, "the interface is gone")

    def addresses(self) -> list[FoundAddress]:
        """Return those of all interfaces."""
        bodies = self._netlink.dump(_RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0))
        return [found for found in map(_address, bodies) if found is not None]

    def own_routes(self) -> list[FoundRoute]:
        """Return those of the device, in all tables, whoever made them."""
        return [each for each in self._routes(self._of_device) if each.indices == {self._index}]

    def may_take_all(self) -> bool:
        """Return whether the device's routes are enough to hold all addresses of an IP version.

        By their lengths alone, which costs a tenth of reading them.
        """
        for version, family in FAMILIES.items():
            width = _WIDTHS[version]
            n_addresses = sum(
                1 << width - length
                for _, length, _, _, table, *_ in self._route_bodies(family, self._of_device)
                if table != _LOCAL_TABLE
            )
            if n_addresses >= 1 << width:
                return True
        return False

    def main_routes(self) -> list[FoundRoute]:
        """Return those of the main table, of all interfaces."""
        filters = attribute(_RTA_TABLE, _U32.pack(MAIN_TABLE))
        return [each for each in self._routes(filters) if each.place.table == MAIN_TABLE]

    def _routes(self, filters: bytes) -> Iterator[FoundRoute]:
        for family in FAMILIES.values():
            for body in self._route_bodies(family, filters):
                found = _route(body)
                if found is not None:
                    yield found

    def _route_bodies(self, family: int, filters: bytes) -> list[bytes]:
        request = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + filters
        try:
            bodies = self._netlink.dump(RTM_GETROUTE, request)
        except OSError:  # no such IP version here, or no route in such a table
            return []
        return [body for body in bodies if body[0] == family]

    # -- what is changed ------------------------------------------------------------------------

    def change(self, steps: Sequence[Step]) -> dict[int, Fault]:
        """Take all steps; return what was refused, by its place in ``steps``. Raises OSError."""
        return self._netlink.change([_message(step, self._index) for step in steps])

    def set_automatic_address(self, mode: int) -> None:
        """Say how the device gets a link-local address when it comes up."""
        generation = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((mode,)))
        spec = attribute(_IFLA_AF_SPEC, attribute(socket.AF_INET6, generation))
        body = _IFINFO.pack(0, 0, self._index, 0, 0) + spec
        # The only fault is a kernel without IPv6, which gives none.
        self._netlink.change([Message(_RTM_NEWLINK, 0, body)])


# -- messages -----------------------------------------------------------------------------------


def _address(body: bytes) -> FoundAddress | None:
    family, length, flags, _, index = _IFADDR.unpack_from(body)
    found = dict(attributes_of(body[_IFADDR.size :]))
    peer = found.get(_IFA_ADDRESS)
    local = found.get(_IFA_LOCAL, peer)
    if family not in _VERSIONS or peer is None or local is None:
        return None
    flags = number(found[_IFA_FLAGS]) if _IFA_FLAGS in found else flags
    return FoundAddress(
        index,
        _interface(local, length),
        _interface(peer, length),
        has_route=not flags & _NO_PREFIX_ROUTE,
        is_ours=found.get(_IFA_PROTO) == bytes((PROTOCOL,)),
    )


def _interface(packed: bytes, length: int) -> Address:
    host = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)  # noqa: PLR2004
    return ip_interface((host, length))


def _route(body: bytes) -> FoundRoute | None:
    family, length, _, _, table, protocol, _, _, flags = RTMSG.unpack_from(body)
    if flags & _RTM_F_CLONED or family not in _VERSIONS:
        return None
    found = dict(attributes_of(body[RTMSG.size :]))
    table = number(found[_RTA_TABLE]) if _RTA_TABLE in found else table
    if table == _LOCAL_TABLE:
        return None
    destination = int.from_bytes(found.get(_RTA_DST, b""), "big")
    network = (IPv4Network if family == socket.AF_INET else IPv6Network)((destination, length))
    hops = frozenset(next_hops(found.get(RTA_MULTIPATH, b"")))
    if not hops:
        hops = frozenset((number(found[RTA_OIF]) if RTA_OIF in found else 0,))
    return FoundRoute(Place(network, table), hops, is_ours=protocol == PROTOCOL)


def _message(step: Step, index: int) -> Message:
    if isinstance(step, SetLink):
        flags = _IFF_UP if step.is_up else 0
        body = _IFINFO.pack(0, 0, index, flags, flags)
        for kind, value in ((_IFLA_MTU, step.mtu), (_IFLA_MASTER, step.master)):
            body += attribute(kind, _U32.pack(value)) if value else b""
        return Message(_RTM_NEWLINK, 0, body)
    if isinstance(step, SetAddress):
        return _address_message(step, index)
    network, table = step.place
    body = RTMSG.pack(
        FAMILIES[network.version], network.prefixlen, 0, 0, 0, PROTOCOL, 0, _UNICAST, 0
    )
    body += attribute(_RTA_DST, network.network_address.packed)
    body += attribute(_RTA_TABLE, _U32.pack(table)) + attribute(RTA_OIF, _U32.pack(index))
    if step.is_removal:
        return Message(_RTM_DELROUTE, 0, body)
    body += attribute(_RTA_PRIORITY, _U32.pack(step.metric)) if step.metric else b""
    return Message(_RTM_NEWROUTE, CREATE_NEW, body)


def _address_message(step: SetAddress, index: int) -> Message:
    address = step.address
    body = _IFADDR.pack(FAMILIES[address.version], address.network.prefixlen, 0, 0, index)
    for kind in (_IFA_LOCAL, _IFA_ADDRESS):
        body += attribute(kind, address.ip.packed)
    if step.is_removal:
        return Message(_RTM_DELADDR, 0, body)
    body += attribute(_IFA_PROTO, bytes((PROTOCOL,)))
    body += attribute(_IFA_FLAGS, _U32.pack(0 if step.has_route else _NO_PREFIX_ROUTE))
    return Message(_RTM_NEWADDR, CREATE_NEW, body)


def name_of(index: int) -> str:
    """Return an interface's name, in words where it has none by now."""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(index) if index else "the kernel"
    return f"interface {index}"
