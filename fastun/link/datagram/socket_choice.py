"""Which of several UDP sockets reaches a host: by its family, and by what it is bound to."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

from fastun.host.routing.route_lookup import RouteLookup

Address = IPv4Address | IPv6Address
_Socket = socket.socket

# The best first. What has no way now may have one when its address comes.
_CHOSEN_BY_KERNEL, _ANY, _BY_ITS_INTERFACE, _BY_ANOTHER, _NO_WAY = range(5)


class UdpSocket(msgspec.Struct, frozen=True, dict=True):  # of cached properties
    """One bound socket; ``has_offload``: the kernel cuts and joins datagrams for it."""

    socket: _Socket
    has_offload: bool
    others: tuple[_Socket, ...] = ()  # of the same address, for lanes but the first

    def of_lane(self, lane: int) -> _Socket:
        """Return that of a lane; where there are no others, the one for all."""
        return self.others[lane - 1] if lane > 0 and self.others else self.socket

    def close(self) -> None:
        """Close all."""
        for each in (self.socket, *self.others):
            each.close()

    @cached_property
    def bound(self) -> Address:
        """The address that it is bound to."""
        return ip_address(str(self.socket.getsockname()[0]).partition("%")[0])

    @cached_property
    def is_dual(self) -> bool:
        """Whether it carries IPv4 beside IPv6."""
        return self.socket.family == socket.AF_INET6 and not self.socket.getsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
        )

    def reaches(self, host: Address) -> bool:
        """Return whether it can send to such an address at all."""
        if self.bound.is_loopback and not host.is_loopback:
            return False  # the kernel refuses; for IPv6 it sends, and no host takes it
        if isinstance(host, IPv4Address):
            return self.socket.family == socket.AF_INET or self.is_dual
        return self.socket.family == socket.AF_INET6


def choose(
    sockets: Mapping[int, UdpSocket], host: Address, port: int, lookup: RouteLookup | None
) -> int | None:
    """Return the index of the socket that suits a host best; None: no socket reaches it."""
    reaching = [index for index, each in sockets.items() if each.reaches(host)]
    if len(reaching) <= 1 or lookup is None:
        return reaching[0] if reaching else None
    return min(reaching, key=lambda index: _rank(sockets[index].bound, host, port, lookup))


def _rank(bound: Address, host: Address, port: int, lookup: RouteLookup) -> int:
    if bound.is_unspecified:
        return _ANY
    if lookup.way_to(host, port, socket.IPPROTO_UDP).source == bound:
        return _CHOSEN_BY_KERNEL
    leaves_by = lookup.interface_to(host, port, socket.IPPROTO_UDP, bound)
    if not leaves_by:
        return _NO_WAY
    return _BY_ITS_INTERFACE if leaves_by == lookup.home_of(bound) else _BY_ANOTHER
