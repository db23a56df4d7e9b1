"""Our address that a peer on UDP knows: answered from, until the way to the peer is another one.

    a datagram arrives   its destination is our source from then on, so that the peer (and each
                         firewall and NAT on the way) hears us where it knows us
    routes change        the way to a peer leaves by another interface: the source that belongs to
                         the old one goes, the routing table chooses, and a handshake tries the way

That is compared with the way before, not with the interface by which the peer's datagrams arrive:
on a host with two uplinks they may well arrive by one and leave by the other. WireGuard in the
kernel does compare those (drivers/net/wireguard/socket.c), on each packet.
"""

from __future__ import annotations

import contextlib

from msgspec import structs

from fastun import log
from fastun.host.routing.route_lookup import NO_WAY, Way
from fastun.link.datagram.peer import SourcePin, UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.inside import Inside
from fastun.native import UdpAddress


class SourcePins:
    """Drops sources that have had their day. Event loop only."""

    def __init__(self, inside: Inside, peers: UdpPeers, sockets: UdpSockets) -> None:
        """Watch the ways to ``peers``."""
        self._inside = inside
        self._peers = peers
        self._sockets = sockets
        self._log = log.get("session")

    def watch(self, udp_peer: UdpPeer, *, routes_changed: bool) -> bool:
        """Return whether the way to the peer has changed: a handshake should try it."""
        address, pin = udp_peer.address, udp_peer.pin
        is_new = address != pin.address
        # A link-local address names its interface, so there is one way.
        if address is None or address.zone or not (is_new or routes_changed):
            return False
        way = self._inside.way_out(address)
        if is_new:
            is_elsewhere = pin.address is None or not _is_same_pair(address, pin.address)
            pin.address = address
            if self._is_retired(address, pin, way):
                self._drop(udp_peer, address)
                return False
            if is_elsewhere:
                pin.way = way
                return False
        return self._compare(udp_peer, address, way)

    def _compare(self, udp_peer: UdpPeer, address: UdpAddress, way: Way) -> bool:
        """Follow the way to where it leads now; return whether it is another one."""
        pin, before = udp_peer.pin, udp_peer.pin.way
        has_source = way != NO_WAY
        if not has_source:  # our address has gone, or its routes
            way = self._inside.way_out(address.without_source())
        if way == NO_WAY or (has_source and way[:2] == before[:2]):
            return False
        pin.way = way
        name = udp_peer.slotted.peer.name
        self._log.info("the route to the peer has changed", peer=name, remote=str(address))
        is_elsewhere = way.interface != before.interface and self._is_tied(address)
        if address.local is not None and (not has_source or is_elsewhere):
            self._drop(udp_peer, address)
        elif address.local is None and pin.retired and pin.retired[1] == way.interface:
            self._let_learn(udp_peer, address)
        return True

    def _is_tied(self, address: UdpAddress) -> bool:
        """Whether our address belongs to the interface that the peer's datagrams arrive by.

        One of a loopback device is reached by any uplink, and stays.
        """
        lookup = self._inside.lookup
        if lookup is None or address.local is None:
            return False
        return lookup.home_of(address.local) in (0, address.local_zone)

    def _is_retired(self, address: UdpAddress, pin: SourcePin, way: Way) -> bool:
        if pin.retired != (address.local, address.local_zone):
            return False
        if way.interface == address.local_zone:
            pin.retired = None
        return pin.retired is not None

    def _drop(self, udp_peer: UdpPeer, address: UdpAddress) -> None:
        pin = udp_peer.pin
        pin.retired = (address.local, address.local_zone)
        moved = address.without_source(left=True)
        with contextlib.suppress(OSError):  # no other socket reaches it, so it stays with this one
            moved = structs.replace(moved, socket_index=self._sockets.free_of(address))
        self._set(udp_peer, moved)

    def _let_learn(self, udp_peer: UdpPeer, address: UdpAddress) -> None:
        """Learn the source again from what comes in: the way leads there again."""
        udp_peer.pin.retired = None
        self._set(udp_peer, address.without_source())

    def _set(self, udp_peer: UdpPeer, address: UdpAddress) -> None:
        udp_peer.address = udp_peer.pin.address = address
        self._peers.send_endpoint(udp_peer)


def _is_same_pair(one: UdpAddress, other: UdpAddress) -> bool:
    return (one.host, one.local) == (other.host, other.local)
