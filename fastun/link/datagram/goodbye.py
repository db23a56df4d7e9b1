"""A side that stops, or removes a peer, says goodbye on UDP: none waits for a dead session.

    {"goodbye": true}   a control message, sealed in the session that it ends

It is sealed under the keys in use, under a counter that is opened once, so neither can anyone else
end a session, nor can a recorded goodbye end a later one. It goes only to a peer that has said
hello in this session: plain WireGuard would count a bad packet. It is sent once; where it is lost,
silence tells. On a stream, the closed connection says the same.

The side that dials begins anew after a short pause, and then at the handshake's own intervals.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from fastun import codec
from fastun.link.datagram.peer import UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.hello import TYPE
from fastun.link.local_end import LocalEnd

_BYTES_MAX: Final = 64

# A server that is restarted is there again after a second or two; its clients do not all come in
# the same instant.
AGAIN_AFTER_S: Final = (0.5, 1.5)


class _Goodbye(msgspec.Struct, frozen=True):
    goodbye: Literal[True]


MESSAGE: Final = TYPE + codec.pack(_Goodbye(goodbye=True))


class Goodbyes:
    """Says and takes goodbyes. Event loop only."""

    def __init__(self, end: LocalEnd, peers: UdpPeers, begin: Callable[[int], None]) -> None:
        """Speak to ``peers``. ``begin`` begins a session with the one of a slot."""
        self._dials = end.settings.role == "connect"
        self._links = end.links
        self._peers = peers
        self._begin = begin

    def say_to_all(self) -> None:
        """Say goodbye to all peers that understand it."""
        for udp_peer in self._peers.by_slot.values():
            if self._peers.is_carried(udp_peer):
                self._say(udp_peer)

    def say_to(self, slot: int) -> None:
        """Say it to the peer of a slot that is about to be left, if it has a session here."""
        udp_peer = self._peers.by_slot.get(slot)
        if udp_peer is not None:
            self._say(udp_peer)

    def _say(self, udp_peer: UdpPeer) -> None:
        message = udp_peer.seal_control(MESSAGE) if udp_peer.hello.theirs is not None else None
        with contextlib.suppress(OSError):  # lost, as any datagram may be
            if message is not None:
                self._peers.send(udp_peer, message)

    def receive(self, udp_peer: UdpPeer, message: bytes) -> bool:
        """Take a peer's control message; return whether it was a goodbye.

        Keys of a newer handshake that is under way are left alone: the peer may be back already.
        """
        if not _is_goodbye(message):
            return False
        slot = udp_peer.slotted.slot
        udp_peer.current = None
        udp_peer.timers.on_sessions_dropped()
        who = "the server" if self._dials else "the peer"
        self._links.end(slot, f"{who} has said goodbye: it is stopping, or has removed us")
        if self._dials:  # this tunnel is wanted at all times
            pause_s = random.uniform(*AGAIN_AFTER_S)  # noqa: S311 (spreads clients, guards nothing)
            asyncio.get_running_loop().call_later(pause_s, self._begin, slot)
        return True


def _is_goodbye(message: bytes) -> bool:
    try:
        codec.unpack(message[len(TYPE) :], _Goodbye, _BYTES_MAX)
    except codec.CodecError:
        return False
    return True
