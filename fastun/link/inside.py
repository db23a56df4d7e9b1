"""Addresses inside the tunnel, which cannot be endpoints: their route leads into our own device.

A peer there could be reached only through its own session, so each datagram would loop, longer each
time. Packets and connections from there are refused (by the interface they arrived on, or by the
route back); while the route to a peer leads there, nothing is sent to it. A client that is outside
all the same, in a network that is routed to the device, is made way for: a known peer on UDP, and
whoever begins a connection on TCP (stream/half_open.py).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from fastun import log
from fastun.host.routing import outer_addresses
from fastun.host.routing.outer_addresses import OuterAddress
from fastun.host.routing.route_lookup import NO_WAY, RouteLookup, Way
from fastun.native import UdpAddress

# linux/in.h, linux/in6.h: what the kernel keeps of the packet that ended a handshake of TCP.
_IP_PKTINFO, _IP_PKTOPTIONS = 8, 9
_CMSG: Final = struct.Struct("@Nii")  # length, level, type
_PKTOPTIONS_BYTES: Final = 256

# A peer that roams may come by many; the oldest are in use no more.
_KEPT_OUT_MAX: Final = 256


class LeadsInsideError(OSError):
    """The route to where something was to be sent leads into the tunnel."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__(errno.ELOOP, "its route leads into the tunnel itself")


class Inside:
    """The inside of one device. Event loop only."""

    def __init__(self, device_index: int, interface: str, lookup: RouteLookup | None) -> None:
        """Ask ``lookup`` for routes; without one, nothing is inside."""
        self._device_index = device_index
        self._interface = interface
        self._lookup = lookup
        self.route_change = asyncio.Event()  # cleared by the one that waits for it
        self._noted: dict[str, str] = {}  # by peer, where its route leads inside
        self._kept_out: dict[OuterAddress, None] = {}
        self._ask: Callable[[], object] | None = None
        self._log = log.get("link")

    def close(self) -> None:
        """Close the route lookup."""
        if self._lookup is not None:
            self._lookup.close()

    def routes_have_changed(self) -> bool:
        """Return whether answers may have changed since the last call."""
        have_changed = self._lookup is not None and self._lookup.have_changed()
        if have_changed:
            self.route_change.set()
        return have_changed

    # -- leading them outside -------------------------------------------------------------------

    def subscribe(self, ask: Callable[[], object]) -> None:
        """Call ``ask`` when there is another address in `kept_out`."""
        self._ask = ask

    @property
    def kept_out(self) -> set[OuterAddress]:
        """Addresses of clients that were found inside: routes make way for them."""
        return set(self._kept_out)

    def keep_out(self, host: str | OuterAddress) -> bool:
        """Have routes make way for an address that was found inside.

        Returns whether that was asked for only now: then a warning would be too early.
        """
        address = outer_addresses.parsed(str(host))
        if self._ask is None or address in self._kept_out:
            return False
        if len(self._kept_out) == _KEPT_OUT_MAX:
            self._kept_out.pop(next(iter(self._kept_out)))
        self._kept_out[address] = None
        self._ask()
        return True

    def may_keep_out(self, address: UdpAddress) -> bool:
        """Return whether routes could make way for an address, which a datagram came from.

        Not where it came through the tunnel, nor where that was asked for before.
        """
        came_through = address.local_zone == self._device_index
        is_new = outer_addresses.parsed(str(address.host)) not in self._kept_out
        return self._ask is not None and is_new and not came_through

    # -- where ----------------------------------------------------------------------------------

    def holds(self, address: UdpAddress) -> bool:
        """Return whether a datagram to ``address`` would go into the tunnel."""
        if address.zone:
            return address.zone == self._device_index
        return self._leads(address.host, address.port, socket.IPPROTO_UDP, address.local)

    def holds_stream(self, sockaddr: tuple[object, ...]) -> bool:
        """Return whether a stream to ``sockaddr``, as a socket of IPv4 or IPv6 has it, would."""
        host, port = str(sockaddr[0]).partition("%")[0], sockaddr[1]
        if len(sockaddr) > 3 and sockaddr[3]:  # noqa: PLR2004 (flow info precedes the zone)
            return sockaddr[3] == self._device_index
        return isinstance(port, int) and self._leads(
            _unmapped(ip_address(host)), port, socket.IPPROTO_TCP, None
        )

    def holds_connection(self, connection: socket.socket) -> bool:
        """Return whether a connection came through the tunnel, or would be answered there."""
        if self._lookup is None:
            return False
        try:
            arrived_by = _arrived_by(connection)
            return arrived_by == self._device_index or self.holds_stream(connection.getpeername())
        except OSError:  # it has ended already
            return False

    def _leads(
        self,
        host: IPv4Address | IPv6Address,
        port: int,
        protocol: int,
        source: IPv4Address | IPv6Address | None,
    ) -> bool:
        if self._lookup is None:
            return False
        found = self._lookup.interface_to(host, port, protocol, source)
        if not found and source is not None:  # it may have gone
            found = self._lookup.interface_to(host, port, protocol)
        return found == self._device_index

    # -- outside --------------------------------------------------------------------------------

    @property
    def lookup(self) -> RouteLookup | None:
        """What tells routes; None: all are as good as any."""
        return self._lookup

    def way_out(self, address: UdpAddress) -> Way:
        """Return how a datagram to ``address`` leaves, from our address in it if there is one.

        NO_WAY: not at all, not from that address, or into the tunnel.
        """
        if self._lookup is None:
            return NO_WAY
        way = self._lookup.way_to(address.host, address.port, socket.IPPROTO_UDP, address.local)
        return NO_WAY if way.interface == self._device_index else way

    def described_way(self, host: IPv4Address | IPv6Address, port: int, protocol: int) -> str:
        """Return for the log by which of our interfaces ``host`` is reached."""
        if self._lookup is None:
            return ""
        way = self._lookup.way_to(host, port, protocol)
        try:
            interface = socket.if_indextoname(way.interface)
        except OSError:  # no route, or the interface has gone
            return "no route"
        return f"via {interface}"

    # -- the log --------------------------------------------------------------------------------

    def note(self, peer: str, remote: str, *, is_inside: bool) -> None:
        """Log that the route to the peer leads inside, or that it no longer does; once each."""
        if is_inside and self._noted.get(peer) != remote:
            self._noted[peer] = remote
            self._log.warning(
                f"the route to {remote} leads into the tunnel itself ({self._interface}), so "
                f"nothing is sent there; add a route to it through another interface",
                peer=peer,
            )
        elif not is_inside and self._noted.pop(peer, None) is not None:
            self._log.info(f"the route to {remote} is outside the tunnel again", peer=peer)


def _unmapped(host: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return (host.ipv4_mapped or host) if isinstance(host, IPv6Address) else host


def _arrived_by(connection: socket.socket) -> int:
    """Return the interface by which an accepted connection's first packets came. OSError."""
    if connection.family == socket.AF_INET6:
        # net/ipv6/tcp_ipv6.c, tcp_v6_syn_recv_sock; for IPv4 on such a socket, too.
        return connection.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF)
    connection.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    try:
        options = connection.getsockopt(socket.IPPROTO_IP, _IP_PKTOPTIONS, _PKTOPTIONS_BYTES)
    finally:
        connection.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 0)
    if len(options) < _CMSG.size + 4 or _CMSG.unpack_from(options)[1:] != (0, _IP_PKTINFO):
        return 0
    return int(struct.unpack_from("=i", options, _CMSG.size)[0])
