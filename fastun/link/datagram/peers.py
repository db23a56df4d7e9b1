"""The peers on UDP by their slots, whose handshakes wait for what, and where each is reached.

A handshake message names an index, and may come from any host at any time: it is for the peer that
has its slot now, or for none. The link-reader learns from here where an authentic one came from;
where authentic data came from, we learn from the link-reader (``UdpPeers.follow``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fastun import log
from fastun.lane.endpoint_messages import SetEndpoint
from fastun.lane.messages import AwaitReply
from fastun.link.datagram.peer import Response, UdpPeer
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.local_end import LocalEnd
from fastun.link.peer_slots import SlottedPeer
from fastun.link.traffic_observer import Observer
from fastun.native import UdpAddress
from fastun.session import clock
from fastun.session.cookies import CookieJar
from fastun.session.noise import InitiatorState
from fastun.session.timers import PeerTimers
from fastun.session.transport import SessionKeys


class UdpPeers:
    """The peers that were heard, or are tried. Event loop only."""

    def __init__(self, end: LocalEnd, sockets: UdpSockets) -> None:
        """Begin without any."""
        self.by_slot: dict[int, UdpPeer] = {}
        # By our index of the handshake; with CLOCK_BOOTTIME seconds, until when it is waited for.
        self._waiting: dict[int, tuple[UdpPeer, float]] = {}
        self._lane = end.lane
        self._links = end.links
        self._peer_slots = end.exchange.peer_slots
        self._sockets = sockets
        self._constants = end.constants
        self._inside = end.outside.inside
        self._log = log.get("session")

    def at(self, slotted: SlottedPeer) -> UdpPeer:
        """Return the one in this peer's slot, new where the slot was another's."""
        udp_peer = self.by_slot.get(slotted.slot)
        if udp_peer is None or udp_peer.slotted is not slotted:
            self.forget(slotted.slot)
            timers = PeerTimers(self._constants, persistent_keepalive_s=slotted.keepalive_s)
            observer = Observer(self._lane.peers, slotted.slot, timers)
            observer.skip()
            jar = CookieJar(slotted.peer.public_key)
            udp_peer = UdpPeer(slotted, timers, observer, jar)
            self.by_slot[slotted.slot] = udp_peer
        return udp_peer

    def forget(self, slot: int) -> bool:
        """Forget the slot's peer; return whether one was known."""
        udp_peer = self.by_slot.pop(slot, None)
        if udp_peer is not None:
            self.forget_handshakes(udp_peer)
        return udp_peer is not None

    def timers(self) -> Iterator[PeerTimers]:
        """Return those of all."""
        return (udp_peer.timers for udp_peer in self.by_slot.values())

    def is_present(self, udp_peer: UdpPeer) -> bool:
        """Return whether the peer may still connect, and this is what is known of it."""
        slotted = udp_peer.slotted
        is_known = self.by_slot.get(slotted.slot) is udp_peer
        return is_known and self._peer_slots.by_slot.get(slotted.slot) is slotted

    def is_carried(self, udp_peer: UdpPeer) -> bool:
        """Return whether the peer's link is the one on UDP."""
        link = self._links.by_slot.get(udp_peer.slotted.slot)
        return link is not None and link is udp_peer.link

    def send(self, udp_peer: UdpPeer, message: bytes) -> None:
        """Send a datagram to the peer, if it is known where. Raises OSError."""
        if udp_peer.address is not None:
            self._sockets.send(message, udp_peer.address)

    def send_to(self, address: UdpAddress, message: bytes) -> None:
        """Send a datagram to an address. Raises OSError."""
        self._sockets.send(message, address)

    def send_response(self, udp_peer: UdpPeer, response: Response) -> None:
        """Send a response: from the address that the peer asked, and every second time without.

        When the peer asks again, that address may be what keeps our packets from it.
        """
        address, pin = response.address, udp_peer.pin
        pin.n_responses += 1
        is_again = pin.n_responses % 2 == 0
        self._sockets.send(response.message, address.without_source() if is_again else address)

    # -- whose handshakes wait ----------------------------------------------------------------

    def wait_for_response(self, udp_peer: UdpPeer, initiator: InitiatorState) -> None:
        """Take note of an initiation to the peer, which replaces the last.

        It can be answered no longer than others would have followed it.
        """
        self.end_initiation(udp_peer)
        udp_peer.initiator = initiator
        until_s = clock.boottime_s() + self._constants.rekey_attempt_time_s
        self._waiting[initiator.local_index] = (udp_peer, until_s)
        awaited = AwaitReply(udp_peer.slotted.slot, initiator.local_index)
        self._links.lanes.first.send("link-reader", awaited)

    def wait_for_proof(self, udp_peer: UdpPeer, keys: SessionKeys, response: Response) -> None:
        """Take note of a response to the peer, which replaces the last."""
        self.end_response(udp_peer)
        udp_peer.responding, udp_peer.response = keys, response
        until_s = keys.created_s + self._constants.reject_after_time_s
        self._waiting[keys.local_index] = (udp_peer, until_s)

    def waiting(self, index: int) -> UdpPeer | None:
        """Return whose handshake waits by this index, if it still does."""
        udp_peer, until_s = self._waiting.get(index, (None, 0.0))
        if udp_peer is None or not self.is_present(udp_peer):
            return None
        return udp_peer if clock.boottime_s() < until_s else None

    def end_initiation(self, udp_peer: UdpPeer) -> None:
        """Let our initiation be answered no more."""
        if udp_peer.initiator is not None:
            self._waiting.pop(udp_peer.initiator.local_index, None)
            udp_peer.initiator = None

    def end_response(self, udp_peer: UdpPeer) -> None:
        """Let the keys of our response be confirmed no more."""
        if udp_peer.responding is not None:
            self._waiting.pop(udp_peer.responding.local_index, None)
            udp_peer.responding = udp_peer.response = None

    def forget_handshakes(self, udp_peer: UdpPeer) -> None:
        """Let no message go on with a handshake of the peer's."""
        self.end_initiation(udp_peer)
        self.end_response(udp_peer)
        udp_peer.concluding = None

    # -- where they are -----------------------------------------------------------------------

    def set_address(
        self, udp_peer: UdpPeer, address: UdpAddress, only_by: SessionKeys | None = None
    ) -> None:
        """Take note of where an authentic handshake message came from.

        ``only_by``: what still comes under older keys is from another gateway.
        """
        if udp_peer.address is not None and udp_peer.address.host != address.host:
            self._links.note_move(udp_peer.slotted.slot, str(udp_peer.address), str(address))
        self._move(udp_peer, address)
        self.send_endpoint(udp_peer, 0 if only_by is None else only_by.local_index)

    def send_endpoint(self, udp_peer: UdpPeer, only_by: int = 0) -> None:
        """Tell the link-reader where the peer is, if that is known."""
        if udp_peer.address is not None:
            self.tell_address(udp_peer, udp_peer.address, only_by)

    def tell_address(self, udp_peer: UdpPeer, address: UdpAddress, only_by: int = 0) -> None:
        """Tell the link-reader that the peer is there."""
        endpoint = SetEndpoint(udp_peer.slotted.slot, address.pack(), only_by)
        self._lane.send("link-reader", endpoint)

    def leave_socket(self, index: int) -> list[UdpPeer]:
        """Reach the peers of a socket by other ones; return those that are connected."""
        moved = []
        for udp_peer in self.by_slot.values():
            if self.is_carried(udp_peer):
                self.follow(udp_peer)  # it may have been heard by this socket since
            address = udp_peer.address
            if address is None or address.socket_index != index:
                continue
            with contextlib.suppress(OSError):  # none reaches it; it may call us
                udp_peer.address = self._sockets.address_of(
                    address.host, address.port, address.zone
                )
                self.send_endpoint(udp_peer)
                if self.is_carried(udp_peer):
                    moved.append(udp_peer)
        return moved

    def follow(self, udp_peer: UdpPeer) -> None:
        """Learn from the link-reader where the peer has roamed to."""
        address = self._lane.peers.endpoint(udp_peer.slotted.slot)
        if address is None or address == udp_peer.address:
            return
        if udp_peer.address is not None and self._inside.holds(address):
            # Authentic, but from where only this very session leads: it stays where it was.
            self.send_endpoint(udp_peer)
            return
        self._move(udp_peer, address)

    def _move(self, udp_peer: UdpPeer, address: UdpAddress) -> None:
        udp_peer.address, udp_peer.is_guess = address, False
        link = udp_peer.link
        if link is not None and self.is_carried(udp_peer) and str(address) != link.remote:
            link.remote = str(address)
            self._log.info("roamed", peer=udp_peer.slotted.peer.name, remote=str(address))
