"""A side that stops, or removes a peer, says goodbye on UDP: none waits for a dead session.

    {"goodbye": true}   a control message, sealed in the session that it ends
    {"goodbye": true, "elsewhere": true}   a client has a session with another gateway

It is sealed under the keys in use, under a counter that is opened once, so neither can anyone else
end a session, nor can a recorded goodbye end a later one. It goes only to a peer that has said
hello in this session: plain WireGuard would count a bad packet. It is sent once; where it is lost,
silence tells. On a stream, the closed connection says the same.

The side that dials begins anew after a short pause, and then at the handshake's own intervals. One
that goes to another gateway says so a moment later: what is still on its way by the old one, until
routes have followed, arrives. That gateway forgets where it was, lest it be called back.
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
from fastun.native import UdpAddress
from fastun.session.transport import SessionKeys

_BYTES_MAX: Final = 64

# A server that is restarted is there again after a second or two; its clients do not all come in
# the same instant.
AGAIN_AFTER_S: Final = (0.5, 1.5)


# A routing daemon has announced the new way by then.
ELSEWHERE_AFTER_S: Final = 1.0


class _Goodbye(msgspec.Struct, frozen=True, omit_defaults=True):
    goodbye: Literal[True]
    elsewhere: bool = False


MESSAGE: Final = TYPE + codec.pack(_Goodbye(goodbye=True))
_ELSEWHERE: Final = TYPE + codec.pack(_Goodbye(goodbye=True, elsewhere=True))


class Goodbyes:
    """Says and takes goodbyes. Event loop only."""

    def __init__(
        self,
        end: LocalEnd,
        peers: UdpPeers,
        begin: Callable[[int], None],
        let_go: Callable[[int], None],
    ) -> None:
        """Speak to ``peers``.

        ``begin`` begins a session with the one of a slot, ``let_go`` forgets it.
        """
        self._dials = end.settings.role == "connect"
        self._links = end.links
        self._health = end.outside.health
        self._peers = peers
        self._begin = begin
        self._let_go = let_go

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

    def move(self, udp_peer: UdpPeer, keys: SessionKeys, address: UdpAddress) -> None:
        """Reach the peer where it has answered; leave the gateway where it was, if it is to be."""
        before = udp_peer.address
        if (
            before is not None
            and before.host != address.host
            and self._health.is_left(before.host)
            and self._peers.is_carried(udp_peer)
        ):
            self._leave(udp_peer)
            self._peers.set_address(udp_peer, address, only_by=keys)
        else:
            self._peers.set_address(udp_peer, address)

    def _leave(self, udp_peer: UdpPeer) -> None:
        """Say it in a moment to the gateway that is left, in the session that it still has."""
        message = udp_peer.seal_control(_ELSEWHERE) if udp_peer.hello.theirs is not None else None
        address = udp_peer.address
        if message is not None and address is not None:
            asyncio.get_running_loop().call_later(
                ELSEWHERE_AFTER_S, self._send_last, message, address
            )

    def _send_last(self, message: bytes, address: UdpAddress) -> None:
        with contextlib.suppress(OSError):  # lost, as any datagram may be
            self._peers.send_to(address, message)

    def receive(self, udp_peer: UdpPeer, message: bytes) -> bool:
        """Take a peer's control message; return whether it was a goodbye.

        Keys of a newer handshake that is under way are left alone: the peer may be back already.
        """
        goodbye = _read(message)
        if goodbye is None:
            return False
        slot = udp_peer.slotted.slot
        udp_peer.current = None
        udp_peer.timers.on_sessions_dropped()
        if goodbye.elsewhere and not self._dials:
            self._links.end(slot, "the peer has gone to another gateway")
            self._let_go(slot)
            return True
        who = "the server" if self._dials else "the peer"
        self._links.end(slot, f"{who} has said goodbye: it is stopping, or has removed us")
        if self._dials:  # this tunnel is wanted at all times
            pause_s = random.uniform(*AGAIN_AFTER_S)  # noqa: S311 (spreads clients, guards nothing)
            asyncio.get_running_loop().call_later(pause_s, self._begin, slot)
        return True


def _read(message: bytes) -> _Goodbye | None:
    try:
        return codec.unpack(message[len(TYPE) :], _Goodbye, _BYTES_MAX)
    except codec.CodecError:
        return None
