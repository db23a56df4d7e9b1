"""Handshakes on streams: how a connection becomes a link, on each wire and from either end.

    simpletun   nothing is said; whoever connects is the peer
    plain       both send their hello, then read the other's
    wireguard   dialling side                       listening side
                initiation (148 bytes)         -->  mac1 valid? too many of them?
                                                    from a peer of ours, and not a replay?
                                               <--  response (92 bytes)
                hello, sealed, counter 0       -->  confirms the keys
                                               <--  hello, sealed, counter 0

A peer that sends data or nothing where its hello is due is plain WireGuard: it gets plain data
only. Until a sealed handshake has proved who the peer is, only a valid initiation is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

from msgspec import structs

from fastun.lane.lane import Lane
from fastun.lane.messages import LinkFormat
from fastun.link import hello
from fastun.link.established import Established
from fastun.link.hello import Hello, HelloError, HungUpError
from fastun.link.key_exchange import KeyExchange
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.link.refusals import fingerprint
from fastun.link.source_limits import (
    PROVEN_BURST_OF_ALL,
    PROVEN_PER_SECOND_OF_ALL,
    TokenBucket,
)
from fastun.link.stream import framing, sockets
from fastun.native import MESSAGE_BYTES_MAX, Wire
from fastun.session import clock, cookies, messages, noise, transport
from fastun.session.messages import MessageType
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.transport import SessionKeys

# What a sealed stream begins with: the length and the type of an initiation.
_INITIATION_HEAD = framing.prefix(messages.INITIATION_BYTES) + bytes(
    [MessageType.INITIATION, 0, 0, 0]
)

# A dialled peer that is fastun answers in one round trip.
_PLAIN_AFTER_S = 2.0


class Handshaker(ABC):
    """The handshake of one wire. Raises HelloError, HandshakeError, OSError or TimeoutError."""

    opening_bytes = 0
    """Length of a client's first message, with its frame; 0: it need not send one."""

    def __init__(self, peer_slots: PeerSlots) -> None:
        """Know the peers."""
        self._peer_slots = peer_slots

    @property
    def dialled(self) -> SlottedPeer:
        """The one peer that is dialled over streams."""
        return self._peer_slots.by_slot[0]

    def fingerprint(self) -> str:
        """Return the first letters of our public key; empty without keys."""
        return ""

    def watch(self, lane: Lane) -> None:
        """Say, now and then, what ``lane`` has refused since."""
        del lane

    def check_opening(self, opening: bytes) -> None:
        """Raise HandshakeError, counted, if this cannot be the start of a client's first frame.

        Cheap, and called with each part that arrives: no cryptography but the mac1.
        """
        del opening

    async def accept(self, connection: socket.socket, opening: bytes = b"") -> Established:
        """Answer a peer that has dialled us; ``opening`` is already read. It may push nothing."""
        async with asyncio.timeout(hello.HELLO_TIMEOUT_S):
            return _without_push(await self._accept(connection, opening))

    async def connect(self, connection: socket.socket, number: int = 0) -> Established:
        """Do the handshake with the peer that we have dialled, on the connection of this number."""
        async with asyncio.timeout(hello.HELLO_TIMEOUT_S):
            return await self._connect(connection, number)

    @abstractmethod
    async def _accept(self, connection: socket.socket, opening: bytes) -> Established: ...

    @abstractmethod
    async def _connect(self, connection: socket.socket, number: int = 0) -> Established: ...


def _without_push(established: Established) -> Established:
    if established.hello is None or established.hello.push is None:
        return established
    return replace(established, hello=structs.replace(established.hello, push=None))


class SilentHandshaker(Handshaker):
    """The simpletun wire."""

    def __init__(self, peer_slots: PeerSlots, link_format: LinkFormat) -> None:
        """Carry ``link_format`` with the peer, which nothing identifies."""
        super().__init__(peer_slots)
        self._link_format = link_format

    async def _accept(self, connection: socket.socket, opening: bytes) -> Established:
        del opening
        return await self._connect(connection)

    async def _connect(self, connection: socket.socket, number: int = 0) -> Established:  # noqa: ARG002 (unused here)
        return Established(self.dialled, self._link_format, "simpletun")


class PlainHandshaker(Handshaker):
    """The plain wire."""

    def __init__(self, peer_slots: PeerSlots, ours: Hello) -> None:
        """Send ``ours``."""
        super().__init__(peer_slots)
        self._ours = ours

    async def _accept(self, connection: socket.socket, opening: bytes) -> Established:
        del opening
        return await self._connect(connection)

    async def _connect(self, connection: socket.socket, number: int = 0) -> Established:  # noqa: ARG002 (there is one)
        await framing.send(connection, hello.encode(self._ours))
        theirs = hello.decode(await framing.receive(connection, hello.HELLO_BYTES_MAX))
        link_format, _ = hello.agree(self._ours, theirs, Wire.PLAIN)
        return Established(self.dialled, link_format, theirs.software, theirs)


_WITHOUT_ANSWER = (
    "the server closed the connection without an answer; check with 'fastun peer list' there that "
    "it has our public key"
)


class SealedHandshaker(Handshaker):
    """The wireguard wire."""

    opening_bytes = len(framing.framed(bytes(messages.INITIATION_BYTES)))

    def __init__(self, exchange: KeyExchange, plain_format: LinkFormat | None = None) -> None:
        """Do the handshakes of ``exchange``.

        ``plain_format`` is for peers without a hello; without it, there can be none.
        """
        super().__init__(exchange.peer_slots)
        self.exchange = exchange
        self._plain_format = plain_format
        self._proven = TokenBucket(PROVEN_PER_SECOND_OF_ALL, PROVEN_BURST_OF_ALL)
        self._handshaking: dict[int, asyncio.Task[None] | None] = {}  # by slot

    def check_opening(self, opening: bytes) -> None:
        """Look at the length and type of an initiation, and at its mac1: before any DH."""
        with self.exchange.counting():
            if opening[:2] != _INITIATION_HEAD[: len(opening)][:2]:
                raise HandshakeError(Refusal.BAD_LENGTH)
            if opening[: framing.HEAD_BYTES] != _INITIATION_HEAD[: len(opening)]:
                raise HandshakeError(Refusal.BAD_TYPE)
            if len(opening) < self.opening_bytes:
                return
            if not cookies.has_valid_mac1(framing.message_of(opening), self.exchange.own.public):
                raise HandshakeError(Refusal.BAD_MAC1)
            if not self._proven.take(clock.boottime_s()):
                raise HandshakeError(Refusal.TOO_MANY)

    def fingerprint(self) -> str:
        """Return the first letters of our public key."""
        return fingerprint(self.exchange.own.public)

    def watch(self, lane: Lane) -> None:
        """As ``KeyExchange.watch``."""
        self.exchange.watch(lane)

    async def _accept(self, connection: socket.socket, opening: bytes) -> Established:
        initiation = framing.message_of(opening)
        if not opening:
            initiation = await framing.receive(connection, messages.INITIATION_BYTES)
        slotted, consumed = self.exchange.admit(initiation, sockets.remote_address(connection))
        with self._one_at_a_time(slotted.slot):
            return await self._answer(connection, slotted, consumed)

    @contextlib.contextmanager
    def _one_at_a_time(self, slot: int) -> Iterator[None]:
        """Cancel the peer's last handshake if it is unfinished: this one is newer.

        So there are at most as many unfinished handshakes as peers, and a stranger cannot displace
        one.
        """
        last, task = self._handshaking.get(slot), asyncio.current_task()
        if last is not None:
            last.cancel()
        self._handshaking[slot] = task
        try:
            yield
        finally:
            if self._handshaking.get(slot) is task:
                del self._handshaking[slot]

    async def _answer(
        self, connection: socket.socket, slotted: SlottedPeer, consumed: noise.ConsumedInitiation
    ) -> Established:
        remote = sockets.remote_address(connection)
        response, keys = self.exchange.respond(slotted, consumed, remote=remote)
        await framing.send(connection, response)
        # In the place of the hello there may be a packet of any length.
        content = self._open_first(keys, await framing.receive(connection, MESSAGE_BYTES_MAX))
        established = self._agree(slotted, keys, content)
        theirs = established.hello
        if theirs is None:
            return established
        if theirs.lane >= self.exchange.hello_for(slotted).lanes:
            raise HelloError("the peer has more connections than this side offers")
        await self._send_hello(connection, keys, slotted, theirs=theirs)
        return replace(established, number=theirs.lane, bundle=theirs.bundle)

    async def _connect(self, connection: socket.socket, number: int = 0) -> Established:
        slotted = self.dialled
        initiation, state = self.exchange.initiate(slotted)
        await framing.send(connection, initiation)
        try:
            response = await framing.receive(connection, messages.RESPONSE_BYTES)
        except (HungUpError, ConnectionResetError):
            raise HungUpError(_WITHOUT_ANSWER) from None
        keys = self.exchange.conclude(slotted, state, response)
        await self._send_hello(connection, keys, slotted, number=number)
        established = self._agree(slotted, keys, await self._first_content(connection, keys))
        bundle = self.exchange.hello_for(slotted).bundle if established.hello is not None else 0
        return replace(established, number=number, bundle=bundle)

    async def _first_content(self, connection: socket.socket, keys: SessionKeys) -> bytes | None:
        """Return what the dialled peer says first; None when it waits for data."""
        try:
            async with asyncio.timeout(None if self._plain_format is None else _PLAIN_AFTER_S):
                await framing.wait(connection)
        except TimeoutError:
            return None
        return self._open_first(keys, await framing.receive(connection, MESSAGE_BYTES_MAX))

    def _agree(self, slotted: SlottedPeer, keys: SessionKeys, content: bytes | None) -> Established:
        """Return what is agreed on by the first content of the peer's; HelloError."""
        n_opened = 0 if content is None else 1
        is_hello = content is not None and content.startswith(hello.TYPE)
        if is_hello or self._plain_format is None:
            theirs = hello.decode(content or b"")
            link_format, aead = hello.agree(
                self.exchange.hello_for(slotted), theirs, Wire.WIREGUARD
            )
            self.exchange.succeeded(slotted)
            return Established(slotted, link_format, theirs.software, theirs, keys, n_opened, aead)
        # A packet in it is lost, as the first packets to a new session often are.
        self.exchange.succeeded(slotted)
        return Established(slotted, self._plain_format, hello.PLAIN_WIREGUARD, None, keys, n_opened)

    async def _send_hello(
        self,
        connection: socket.socket,
        keys: SessionKeys,
        slotted: SlottedPeer,
        *,
        number: int = 0,
        theirs: Hello | None = None,
    ) -> None:
        ours = hello.for_peer(self.exchange.hello_for(slotted), theirs)
        if theirs is not None and theirs.lane > 0:  # the first connection of the bundle has it
            ours = structs.replace(ours, push=None)
        else:
            slotted.pushed = ours.push
        ours = structs.replace(ours, lane=number)
        content = hello.encode(ours)
        await framing.send(
            connection, transport.seal_data(keys.send, keys.remote_index, 0, content)
        )

    def _open_first(self, keys: SessionKeys, message: bytes) -> bytes:
        with self.exchange.counting():
            counter, content = transport.open_data(keys.receive, keys.local_index, message)
            if counter != 0:
                raise HandshakeError(Refusal.COUNTER_LIMIT)
        return content
