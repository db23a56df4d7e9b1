"""Whether a gateway answers, where the peer is connected to another one: asked by a handshake.

The response is opened, and nothing else comes of it: that gateway has keys which are never
confirmed, as after a handshake whose last message was lost, and the session elsewhere goes on.
Nothing else that WireGuard answers could be asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastun.session import messages
from fastun.session.refusal import HandshakeError

if TYPE_CHECKING:
    from fastun.host.sockets.address import EndpointAddress
    from fastun.link.datagram.sockets import UdpSockets
    from fastun.link.local_end import LocalEnd
    from fastun.link.slotted_peer import SlottedPeer
    from fastun.native import UdpAddress
    from fastun.session.noise import InitiatorState


class _Asked(msgspec.Struct, frozen=True):
    slotted: SlottedPeer
    address: UdpAddress
    state: InitiatorState


class HandshakeProbes:
    """Of all peers, one of each at a time. Event loop only."""

    def __init__(self, end: LocalEnd, sockets: UdpSockets) -> None:
        """Ask by ``sockets``."""
        self._exchange = end.exchange
        self._lane = end.lane
        self._sockets = sockets
        self._asked: dict[int, _Asked] = {}  # by slot
        self._answered: set[int] = set()  # slots

    def ask(self, slotted: SlottedPeer, place: EndpointAddress) -> None:
        """Send an initiation there. Raises OSError."""
        slot = slotted.slot
        self._answered.discard(slot)
        address = self._sockets.address_of(*place)
        message, state = self._exchange.initiate(slotted, None, self._lane.new_index(slot))
        self._asked[slot] = _Asked(slotted, address, state)
        self._sockets.send(message, address)

    def has_answered(self, slot: int) -> bool:
        """Return whether the last one that was asked has answered; forget it."""
        self._asked.pop(slot, None)
        is_there = slot in self._answered
        self._answered.discard(slot)
        return is_there

    def take(self, response: bytes) -> bool:
        """Take a response; return whether it was to one of these."""
        index = messages.receiver_of(response)
        for slot, asked in self._asked.items():
            if asked.state.local_index == index:
                try:
                    self._exchange.conclude(asked.slotted, asked.state, response)
                except HandshakeError:
                    return True
                self._answered.add(slot)
                return True
        return False
