"""Handshakes on UDP: from a message of any host to keys that both sides hold.

    link-reader --UdpHandshakeCame--> queue --> respond or conclude
                                                |
    link-reader <--AddReceivingKey--------------'
                --KeyAdded--> response sent, or our own keys in use
                --KeyConfirmed, ControlCame--> keys in use, which the initiator has proved to hold

Either side may begin. Where both do at once, each answers and each concludes: two sessions, and a
side that has concluded its own goes on to seal under that one. A message costs some hundred
microseconds, so the link-reader's gate asks for cookies when too many come, and the others wait in
a bounded queue.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from fastun.link.datagram.handshake_probe import HandshakeProbes
from fastun.link.datagram.handshake_queue import HandshakeQueue
from fastun.link.datagram.initiator import Initiator
from fastun.link.datagram.peer import Concluding, Response, UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.key_installer import KeyInstaller
from fastun.link.last_error import Reason
from fastun.link.likely import of_error
from fastun.link.local_end import LocalEnd
from fastun.native import UdpAddress
from fastun.session import clock, messages
from fastun.session.messages import MessageType
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.transport import SessionKeys


class DatagramHandshakes:
    """All handshakes that wait for something. Event loop only."""

    def __init__(
        self,
        end: LocalEnd,
        peers: UdpPeers,
        sockets: UdpSockets,
        installer: KeyInstaller,
        use: Callable[[UdpPeer, SessionKeys, UdpAddress | None], None],
    ) -> None:
        """Begin without any.

        ``use`` is given the keys of each that has succeeded, and of ours where it was answered.
        """
        self._exchange = end.exchange
        self._lane = end.lane
        self._inside = end.outside.inside
        self._attempts = end.outside.attempts
        self._peers = peers
        self._installer = installer
        self._use = use
        self.probes = HandshakeProbes(end, sockets)
        self._queue = HandshakeQueue(end.exchange, self._take)
        self._initiator = Initiator(end, peers, sockets)

    def initiate(self, udp_peer: UdpPeer) -> None:
        """Send an initiation to the peer."""
        self._initiator.initiate(udp_peer)

    # -- messages -----------------------------------------------------------------------------

    def on_handshake(self, address: UdpAddress, message: bytes) -> None:
        """Queue a handshake message, from any host."""
        self._queue.put(address, message)

    def _take(self, kind: MessageType, address: UdpAddress, message: bytes) -> None:
        is_inside = self._inside.holds(address)
        is_known_later = kind is MessageType.INITIATION and self._inside.may_keep_out(address)
        if is_inside and not is_known_later:
            self._refuse_inside()
        match kind:
            case MessageType.INITIATION:
                self._respond(address, message, is_inside=is_inside)
            case MessageType.RESPONSE:
                self._conclude(address, message)
            case MessageType.COOKIE_REPLY:
                self._take_cookie(message)

    def _waiting(self, index: int) -> UdpPeer:
        """Return the peer whose handshake waits by this index. HandshakeError, counted."""
        udp_peer = self._peers.waiting(index)
        if udp_peer is None:
            with self._exchange.counting():
                raise HandshakeError(Refusal.UNKNOWN_INDEX)
        return udp_peer

    def _take_cookie(self, message: bytes) -> None:
        udp_peer = self._waiting(messages.receiver_of(message))
        with self._exchange.counting():
            udp_peer.jar.consume_reply(message, clock.boottime_s())
        self._attempts.came_back(udp_peer.slotted.slot, Reason.COOKIE_ONLY)

    def _refuse_inside(self) -> None:
        with self._exchange.counting():
            raise HandshakeError(Refusal.INSIDE_TUNNEL)

    def _respond(self, address: UdpAddress, initiation: bytes, *, is_inside: bool) -> None:
        slotted, consumed = self._exchange.admit(initiation, address)
        if is_inside:  # a peer of ours: what it sends next can be answered
            self._inside.keep_out(address.host)
            self._refuse_inside()
        udp_peer = self._peers.at(slotted)
        cookie = udp_peer.jar.current(clock.boottime_s())
        response, keys = self._exchange.respond(
            slotted,
            consumed,
            cookie,
            remote=address,
            local_index=self._lane.new_index(slotted.slot),
        )
        udp_peer.jar.remember_sent(response)
        self._peers.wait_for_proof(udp_peer, keys, Response(response, address))
        if udp_peer.is_moved_by_initiations():
            self._peers.set_address(udp_peer, address)
        self._open(udp_peer, keys)

    def _conclude(self, address: UdpAddress, response: bytes) -> None:
        if self.probes.take(response):
            return
        index = messages.receiver_of(response)
        udp_peer = self._waiting(index)
        initiator = udp_peer.initiator
        if initiator is None or initiator.local_index != index:
            with self._exchange.counting():
                raise HandshakeError(Refusal.UNKNOWN_INDEX)
        try:
            keys = self._exchange.conclude(udp_peer.slotted, initiator, response)
        except HandshakeError as error:
            self._attempts.came_back(udp_peer.slotted.slot, *of_error(error))
            raise
        self._initiator.answered(udp_peer, address)
        self._peers.end_initiation(udp_peer)
        # Until the link-reader has the keys, what is sealed is for where the peer was. If nothing
        # is, it hears first where the peer is: what waits for the keys goes out at once.
        udp_peer.concluding = Concluding(keys, address)
        if not self._peers.is_carried(udp_peer):
            self._peers.tell_address(udp_peer, address)
        self._open(udp_peer, keys)

    def _open(self, udp_peer: UdpPeer, keys: SessionKeys) -> None:
        """Have the link-reader open under the keys, which it says when it does."""
        self._installer.add_receiving(udp_peer.slotted.slot, keys, counter=0)
        udp_peer.note_opened(keys)

    # -- keys ---------------------------------------------------------------------------------

    def on_key_added(self, slot: int, index: int) -> None:
        """Go on with a handshake: the link-reader opens what names ``index``."""
        udp_peer = self._peers.by_slot.get(slot)
        if udp_peer is None:
            return
        udp_peer.note_added(index)
        responding, concluding = udp_peer.responding, udp_peer.concluding
        if responding is not None and responding.local_index == index and udp_peer.response:
            with contextlib.suppress(OSError):  # lost, as any datagram may be
                self._peers.send_response(udp_peer, udp_peer.response)
            udp_peer.response = None
            udp_peer.timers.on_response_sent(clock.boottime_s())
        elif concluding is not None and concluding.keys.local_index == index:
            udp_peer.concluding = None
            # The peer may have asked us, too. What it seals under those keys opens, but we do not
            # go over to them: had both sides done so, neither would be the one that rekeys.
            self._peers.end_response(udp_peer)
            self._use(udp_peer, concluding.keys, concluding.address)

    def on_key_confirmed(self, slot: int, index: int) -> None:
        """Seal under the keys that the initiator has proved to hold."""
        udp_peer = self._peers.by_slot.get(slot)
        keys = None if udp_peer is None else udp_peer.responding
        if udp_peer is not None and keys is not None and keys.local_index == index:
            self._peers.end_response(udp_peer)
            self._peers.follow(udp_peer)  # it is where its proof came from
            self._use(udp_peer, keys, None)
