"""Greetings: how a connection becomes a link, on each wire and from either end.

    simpletun   nothing is said; whoever connects is the peer
    plain       both send their hello, then read the other's
    wireguard   dialling side                       listening side
                initiation (148 bytes)         -->  does it know our key? are there too many?
                                                    who is it? a peer of ours, and not a replay
                                               <--  response (92 bytes)
                hello, sealed, counter 0       -->  confirms the keys
                                               <--  hello, sealed, counter 0

A peer that sends data or nothing where its hello is due is plain WireGuard: it gets plain data
only. Until a sealed greeting has proved who speaks, nothing is answered but a valid initiation.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from msgspec import structs

from fastun._native import Aead, Wire
from fastun.channel import LinkFormat
from fastun.link import frames, hello
from fastun.link.hello import Hello, HelloError
from fastun.link.source_limits import (
    PROVEN_BURST_OF_ALL,
    PROVEN_PER_SECOND_OF_ALL,
    TokenBucket,
)
from fastun.peers.roster import Member, Roster
from fastun.session import clock, cookies, messages, noise, transport
from fastun.session.keys import KeyPair
from fastun.session.messages import MessageType
from fastun.session.protocol import NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.timestamps import Timestamps
from fastun.session.transport import SessionKeys

# In the place of the hello there may be a packet of any length.
_FIRST_DATA_MAX = 65535

# What a sealed stream begins with: the length and the type of an initiation.
_INITIATION_HEAD = frames.prefix(messages.INITIATION_BYTES) + bytes(
    [MessageType.INITIATION, 0, 0, 0]
)

# A dialled peer that is fastun answers in one round trip.
_PLAIN_AFTER_S = 2.0


@dataclass
class Greeted:
    """The peer, and what was agreed on. ``keys`` have sealed one message.

    The link keeps this object, but not its first keys: they are handed over once (take_keys).
    """

    member: Member
    link_format: LinkFormat
    software: str
    hello: Hello | None = None
    keys: SessionKeys | None = field(default=None, repr=False)
    n_opened: int = 0  # counters of the peer's that are used up
    aead: Aead = Aead.CHACHA20_POLY1305

    def take_keys(self) -> SessionKeys:
        """Return the keys of a sealed greeting, and forget them."""
        keys, self.keys = self.keys, None
        assert keys is not None  # noqa: S101 (a sealed greeting has them)
        return keys


class Greeter(ABC):
    """Greets on one wire. Raises HelloError, HandshakeError, OSError or TimeoutError."""

    opening_bytes = 0
    """Length of a client's first message, with its frame; 0: it need not send one."""

    def check_opening(self, opening: bytes) -> None:
        """Raise HandshakeError, counted, if this cannot be the start of a client's first frame.

        Cheap, and called with each part that arrives: no cryptography but the mac1.
        """
        del opening

    async def welcome(self, connection: socket.socket, opening: bytes = b"") -> Greeted:
        """Greet a peer that has dialled us; ``opening`` is already read. It may push nothing."""
        async with asyncio.timeout(hello.HELLO_TIMEOUT_S):
            return _without_push(await self._welcome(connection, opening))

    async def approach(self, connection: socket.socket) -> Greeted:
        """Greet whom we have dialled."""
        async with asyncio.timeout(hello.HELLO_TIMEOUT_S):
            return await self._approach(connection)

    @abstractmethod
    async def _welcome(self, connection: socket.socket, opening: bytes) -> Greeted: ...

    @abstractmethod
    async def _approach(self, connection: socket.socket) -> Greeted: ...


def _without_push(greeted: Greeted) -> Greeted:
    if greeted.hello is None or greeted.hello.push is None:
        return greeted
    return replace(greeted, hello=structs.replace(greeted.hello, push=None))


class SilentGreeter(Greeter):
    """The simpletun wire."""

    def __init__(self, roster: Roster, link_format: LinkFormat) -> None:
        """Carry ``link_format`` with whoever is there."""
        self._roster = roster
        self._link_format = link_format

    async def _welcome(self, connection: socket.socket, opening: bytes) -> Greeted:
        del opening
        return await self._approach(connection)

    async def _approach(self, connection: socket.socket) -> Greeted:  # noqa: ARG002 (unused here)
        return Greeted(self._roster.by_slot[0], self._link_format, "simpletun")


class PlainGreeter(Greeter):
    """The plain wire."""

    def __init__(self, roster: Roster, ours: Hello) -> None:
        """Say ``ours``."""
        self._roster = roster
        self._ours = ours

    async def _welcome(self, connection: socket.socket, opening: bytes) -> Greeted:
        del opening
        return await self._approach(connection)

    async def _approach(self, connection: socket.socket) -> Greeted:
        await frames.send(connection, hello.encode(self._ours))
        theirs = hello.decode(await frames.receive(connection, hello.HELLO_BYTES_MAX))
        link_format, _ = hello.agree(self._ours, theirs, Wire.PLAIN)
        return Greeted(self._roster.by_slot[0], link_format, theirs.software, theirs)


class SealedGreeter(Greeter):
    """The wireguard wire. ``results`` counts handshakes by what became of them."""

    opening_bytes = len(frames.of(bytes(messages.INITIATION_BYTES)))

    def __init__(
        self,
        roster: Roster,
        own: KeyPair,
        hello_for: Callable[[Member], Hello],
        plain_format: LinkFormat | None = None,
        timestamps: Timestamps | None = None,
        *,
        check_room: Callable[[Member], None] = lambda _: None,
    ) -> None:
        """Be ``own``; ``hello_for(member)`` is what a member is told.

        ``plain_format`` is for peers without a hello; without it, there can be none. ``timestamps``
        are those of all initiations under these keys.
        ``check_room(member)`` raises HandshakeError where a member cannot connect now.
        """
        self._timestamps = timestamps or Timestamps()
        self._roster = roster
        self._own = own
        self.hello_for = hello_for
        self._plain_format = plain_format
        self._check_room = check_room
        self._proven = TokenBucket(PROVEN_PER_SECOND_OF_ALL, PROVEN_BURST_OF_ALL)
        self._greeting: dict[int, asyncio.Task[None] | None] = {}  # by slot
        self.results: Counter[str] = Counter(dict.fromkeys(("ok", *Refusal), 0))

    def check_opening(self, opening: bytes) -> None:
        """Look at the length and type of an initiation, and at its mac1: before any DH."""
        with self.counting():
            if opening[:2] != _INITIATION_HEAD[: len(opening)][:2]:
                raise HandshakeError(Refusal.BAD_LENGTH)
            if opening[: frames.HEAD_BYTES] != _INITIATION_HEAD[: len(opening)]:
                raise HandshakeError(Refusal.BAD_TYPE)
            if len(opening) < self.opening_bytes:
                return
            if not cookies.has_valid_mac1(frames.message_of(opening), self._own.public):
                raise HandshakeError(Refusal.BAD_MAC1)
            if not self._proven.take(clock.boottime_s()):
                raise HandshakeError(Refusal.TOO_MANY)

    async def _welcome(self, connection: socket.socket, opening: bytes) -> Greeted:
        initiation = frames.message_of(opening)
        if not opening:
            initiation = await frames.receive(connection, messages.INITIATION_BYTES)
        member, consumed = self.admit(initiation)
        with self._one_at_a_time(member.slot):
            return await self._answer(connection, member, consumed)

    @contextlib.contextmanager
    def _one_at_a_time(self, slot: int) -> Iterator[None]:
        """Cancel the member's last greeting if it is unfinished: this one is newer.

        So there are at most as many unfinished greetings as members, and a stranger cannot displace
        one.
        """
        last, task = self._greeting.get(slot), asyncio.current_task()
        if last is not None:
            last.cancel()
        self._greeting[slot] = task
        try:
            yield
        finally:
            if self._greeting.get(slot) is task:
                del self._greeting[slot]

    async def _answer(
        self, connection: socket.socket, member: Member, consumed: noise.ConsumedInitiation
    ) -> Greeted:
        response, keys = noise.respond(consumed, member.peer.preshared_key or NO_PRESHARED_KEY)
        await frames.send(connection, response)
        content = self._open_first(keys, await frames.receive(connection, _FIRST_DATA_MAX))
        greeted = self._agree(member, keys, content)
        if greeted.hello is not None:
            await self._send_hello(connection, keys, member)
        return greeted

    async def _approach(self, connection: socket.socket) -> Greeted:
        member = self._roster.by_slot[0]
        initiation, state = self.initiate(member)
        await frames.send(connection, initiation)
        try:
            response = await frames.receive(connection, messages.RESPONSE_BYTES)
        except (frames.HungUpError, ConnectionResetError):
            raise HelloError(self._without_answer(member)) from None
        keys = self.conclude(member, state, response)
        await self._send_hello(connection, keys, member)
        return self._agree(member, keys, await self._first_content(connection, keys))

    def _without_answer(self, member: Member) -> str:
        text = (
            "the server closed the connection without an answer; does it know this key? "
            "'fastun peer list' there shows"
        )
        is_tap = self.hello_for(member).mode == "tap"
        return f"{text}; or another client may be using its TAP device" if is_tap else text

    async def _first_content(self, connection: socket.socket, keys: SessionKeys) -> bytes | None:
        """Return what the dialled peer says first; None when it waits for data."""
        try:
            async with asyncio.timeout(None if self._plain_format is None else _PLAIN_AFTER_S):
                await frames.wait(connection)
        except TimeoutError:
            return None
        return self._open_first(keys, await frames.receive(connection, _FIRST_DATA_MAX))

    def admit(self, initiation: bytes) -> tuple[Member, noise.ConsumedInitiation]:
        """Return who sent an initiation that may be answered. HandshakeError, counted."""
        with self.counting():
            consumed = noise.consume_initiation(self._own, initiation)
            member = self._roster.member_of(consumed.peer_public)
            if member is None:
                raise HandshakeError(Refusal.UNKNOWN_PEER)
            member.guard.admit(consumed.timestamp, clock.boottime_s())
            self._check_room(member)
            return member, consumed

    def check_still_room(self, member: Member) -> None:
        """Look again at the end of a handshake: another may have been faster. HandshakeError."""
        with self.counting():
            self._check_room(member)

    def conclude(self, member: Member, state: noise.InitiatorState, response: bytes) -> SessionKeys:
        """Return the keys that a response gives. HandshakeError, counted."""
        with self.counting():
            preshared_key = member.peer.preshared_key or NO_PRESHARED_KEY
            return noise.consume_response(self._own, state, response, preshared_key)

    def initiate(
        self, member: Member, cookie: bytes | None = None
    ) -> tuple[bytes, noise.InitiatorState]:
        """Return a new initiation to a member, with what its cookie reply gave."""
        timestamp = self._timestamps.next()
        return noise.initiate(self._own, member.peer.public_key, cookie=cookie, timestamp=timestamp)

    def _agree(self, member: Member, keys: SessionKeys, content: bytes | None) -> Greeted:
        """Return what is agreed on by the first content of the peer's; HelloError."""
        n_opened = 0 if content is None else 1
        is_hello = content is not None and content.startswith(hello.TYPE)
        if is_hello or self._plain_format is None:
            theirs = hello.decode(content or b"")
            link_format, aead = hello.agree(self.hello_for(member), theirs, Wire.WIREGUARD)
            self.results["ok"] += 1
            return Greeted(member, link_format, theirs.software, theirs, keys, n_opened, aead)
        # A packet in it is lost, as the first packets to a new session often are.
        self.results["ok"] += 1
        return Greeted(member, self._plain_format, hello.PLAIN_WIREGUARD, None, keys, n_opened)

    async def _send_hello(
        self, connection: socket.socket, keys: SessionKeys, member: Member
    ) -> None:
        content = hello.encode(self.hello_for(member))
        await frames.send(connection, transport.seal_data(keys.send, keys.remote_index, 0, content))

    def _open_first(self, keys: SessionKeys, message: bytes) -> bytes:
        with self.counting():
            counter, content = transport.open_data(keys.receive, keys.local_index, message)
            if counter != 0:
                raise HandshakeError(Refusal.COUNTER_LIMIT)
        return content

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count the refusal that leaves the ``with`` block."""
        try:
            yield
        except HandshakeError as error:
            self.results[error.reason] += 1
            raise
