"""Handshakes on UDP: from a message of anybody to keys that both sides hold.

    link-reader --DatagramCame--> queue --> respond or conclude
                                                |
    link-reader <--AddReceivingKey--------------'
                --KeyAdded--> response sent, or our own keys in use
                --KeyConfirmed, ControlCame--> keys in use, which the initiator has shown to hold

Either side may begin. Where both do at once, each answers and each concludes: two sessions, and who
has concluded its own goes on to seal under that one. A message costs some hundred microseconds, so
the link-reader's gate asks for cookies when too many come, and the others wait in a bounded queue.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from fastun._native import UdpAddress
from fastun.link.correspondent import Correspondent
from fastun.link.correspondents import Correspondents
from fastun.link.greeting import SealedGreeter
from fastun.link.handshake_queue import HandshakeQueue
from fastun.link.initiating import Initiator
from fastun.link.inside import Inside
from fastun.link.key_installer import KeyInstaller
from fastun.link.udp import UdpSockets
from fastun.session import clock, messages, noise
from fastun.session.messages import MessageType
from fastun.session.protocol import NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.transport import SessionKeys


class DatagramHandshakes:
    """All handshakes that wait for something. Event loop only."""

    def __init__(  # noqa: PLR0917 (what it stands between)
        self,
        greeter: SealedGreeter,
        sockets: UdpSockets,
        known: Correspondents,
        installer: KeyInstaller,
        use: Callable[[Correspondent, SessionKeys], None],
        inside: Inside,
    ) -> None:
        """Begin without any. ``use`` is given the keys of each that has succeeded."""
        self._inside = inside
        self._greeter = greeter
        self._known = known
        self._installer = installer
        self._use = use
        self._queue = HandshakeQueue(greeter, self._take)
        self._initiator = Initiator(greeter, sockets, known, inside)

    def initiate(self, correspondent: Correspondent) -> None:
        """Send an initiation to the peer."""
        self._initiator.initiate(correspondent)

    # -- messages -----------------------------------------------------------------------------

    def on_datagram(self, address: UdpAddress, message: bytes) -> None:
        """Take a handshake message of anybody."""
        self._queue.put(address, message)

    def _take(self, kind: MessageType, address: UdpAddress, message: bytes) -> None:
        if self._inside.holds(address):
            with self._greeter.counting():
                raise HandshakeError(Refusal.INSIDE_TUNNEL)
        match kind:
            case MessageType.INITIATION:
                self._respond(address, message)
            case MessageType.RESPONSE:
                self._conclude(address, message)
            case MessageType.COOKIE_REPLY:
                self._take_cookie(message)

    def _waiting(self, index: int) -> Correspondent:
        """Return whose handshake waits by this index. HandshakeError, counted."""
        correspondent = self._known.waiting(index)
        if correspondent is None:
            with self._greeter.counting():
                raise HandshakeError(Refusal.UNKNOWN_INDEX)
        return correspondent

    def _take_cookie(self, message: bytes) -> None:
        correspondent = self._waiting(messages.receiver_of(message))
        with self._greeter.counting():
            correspondent.jar.consume_reply(message, clock.boottime_s())

    def _respond(self, address: UdpAddress, initiation: bytes) -> None:
        member, consumed = self._greeter.admit(initiation)
        correspondent = self._known.of_member(member)
        preshared_key = member.peer.preshared_key or NO_PRESHARED_KEY
        cookie = correspondent.jar.current(clock.boottime_s())
        response, keys = noise.respond(consumed, preshared_key, cookie=cookie)
        correspondent.jar.remember_sent(response)
        self._known.wait_for_proof(correspondent, keys, response)
        self._known.set_address(correspondent, address)
        self._installer.add_receiving(member.slot, keys, counter=0)

    def _conclude(self, address: UdpAddress, response: bytes) -> None:
        index = messages.receiver_of(response)
        correspondent = self._waiting(index)
        initiator = correspondent.initiator
        if initiator is None or initiator.local_index != index:
            with self._greeter.counting():
                raise HandshakeError(Refusal.UNKNOWN_INDEX)
        self._greeter.check_still_room(correspondent.member)
        keys = self._greeter.conclude(correspondent.member, initiator, response)
        self._known.end_initiation(correspondent)
        correspondent.concluding = keys
        self._known.set_address(correspondent, address)
        self._installer.add_receiving(correspondent.member.slot, keys, counter=0)

    # -- keys ---------------------------------------------------------------------------------

    def on_key_added(self, slot: int, index: int) -> None:
        """Go on with a handshake: the link-reader opens what names ``index``."""
        correspondent = self._known.by_slot.get(slot)
        if correspondent is None:
            return
        responding, concluding = correspondent.responding, correspondent.concluding
        if responding is not None and responding.local_index == index and correspondent.response:
            with contextlib.suppress(OSError):  # lost, as any datagram may be
                self._known.send(correspondent, correspondent.response)
            correspondent.response = None
            correspondent.timers.on_response_sent(clock.boottime_s())
        elif concluding is not None and concluding.local_index == index:
            correspondent.concluding = None
            # The peer may have asked us, too. What it seals under those keys opens, but we do not
            # go over to them: had both sides done so, neither would be the one that rekeys.
            self._known.end_response(correspondent)
            self._use(correspondent, concluding)

    def on_key_confirmed(self, slot: int, index: int) -> None:
        """Seal under the keys that the initiator has proved to hold."""
        correspondent = self._known.by_slot.get(slot)
        keys = None if correspondent is None else correspondent.responding
        if correspondent is not None and keys is not None and keys.local_index == index:
            self._known.end_response(correspondent)
            self._use(correspondent, keys)
