"""Greetings: how a connection becomes a link, on each wire and from either end.

    simpletun   nothing is said; whoever connects is the peer
    plain       both send their hello, then read the other's
    wireguard   dialling side                       listening side
                initiation (148 bytes)         -->  who is it? a peer of ours, and not a replay
                                               <--  response (92 bytes)
                hello, sealed, counter 0       -->  confirms the keys
                                               <--  hello, sealed, counter 0

Until a sealed greeting has proved who speaks, nothing is answered but a valid initiation.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fastun._native import Aead, Wire
from fastun.channel import LinkFormat
from fastun.link import frames, hello
from fastun.link.hello import Hello
from fastun.roster import Member, Roster
from fastun.session import clock, messages, noise, transport
from fastun.session.keys import KeyPair
from fastun.session.protocol import NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.transport import SessionKeys

_SEALED_HELLO_MAX = hello.HELLO_BYTES_MAX + messages.DATA_BYTES_MIN


@dataclass(frozen=True)
class Greeted:
    """Who is there, and what was agreed on. ``keys`` have sealed and opened one message each."""

    member: Member
    link_format: LinkFormat
    software: str
    hello: Hello | None = None
    keys: SessionKeys | None = field(default=None, repr=False)
    aead: Aead = Aead.CHACHA20_POLY1305


class Greeter(ABC):
    """Greets on one wire. Raises HelloError, HandshakeError, OSError or TimeoutError."""

    async def welcome(self, connection: socket.socket) -> Greeted:
        """Greet who has dialled us."""
        async with asyncio.timeout(hello.HELLO_TIMEOUT_S):
            return await self._welcome(connection)

    async def approach(self, connection: socket.socket) -> Greeted:
        """Greet whom we have dialled."""
        async with asyncio.timeout(hello.HELLO_TIMEOUT_S):
            return await self._approach(connection)

    @abstractmethod
    async def _welcome(self, connection: socket.socket) -> Greeted: ...

    @abstractmethod
    async def _approach(self, connection: socket.socket) -> Greeted: ...


class SilentGreeter(Greeter):
    """The simpletun wire."""

    def __init__(self, roster: Roster, link_format: LinkFormat) -> None:
        """Carry ``link_format`` with whoever is there."""
        self._roster = roster
        self._link_format = link_format

    async def _welcome(self, connection: socket.socket) -> Greeted:  # noqa: ARG002 (unused here)
        return Greeted(self._roster.by_slot[0], self._link_format, "simpletun")

    _approach = _welcome


class PlainGreeter(Greeter):
    """The plain wire."""

    def __init__(self, roster: Roster, ours: Hello) -> None:
        """Say ``ours``."""
        self._roster = roster
        self._ours = ours

    async def _welcome(self, connection: socket.socket) -> Greeted:
        await frames.send(connection, hello.encode(self._ours))
        theirs = hello.decode(await frames.receive(connection, hello.HELLO_BYTES_MAX))
        link_format, _ = hello.agree(self._ours, theirs, Wire.PLAIN)
        return Greeted(self._roster.by_slot[0], link_format, theirs.software, theirs)

    _approach = _welcome


class SealedGreeter(Greeter):
    """The wireguard wire. ``results`` counts handshakes by what became of them."""

    def __init__(self, roster: Roster, own: KeyPair, hello_for: Callable[[Member], Hello]) -> None:
        """Be ``own``; ``hello_for(member)`` is what a member is told."""
        self._roster = roster
        self._own = own
        self.hello_for = hello_for
        self.results: Counter[str] = Counter(dict.fromkeys(("ok", *Refusal), 0))

    async def _welcome(self, connection: socket.socket) -> Greeted:
        initiation = await frames.receive(connection, messages.INITIATION_BYTES)
        member, consumed = self.admit(initiation)
        response, keys = noise.respond(consumed, member.peer.preshared_key or NO_PRESHARED_KEY)
        await frames.send(connection, response)
        theirs = self._open_hello(keys, await frames.receive(connection, _SEALED_HELLO_MAX))
        greeted = self._agree(member, keys, theirs)
        await self._send_hello(connection, keys, member)
        return greeted

    async def _approach(self, connection: socket.socket) -> Greeted:
        member = self._roster.by_slot[0]
        initiation, state = noise.initiate(self._own, member.peer.public_key)
        await frames.send(connection, initiation)
        response = await frames.receive(connection, messages.INITIATION_BYTES)
        keys = self.conclude(member, state, response)
        await self._send_hello(connection, keys, member)
        theirs = self._open_hello(keys, await frames.receive(connection, _SEALED_HELLO_MAX))
        return self._agree(member, keys, theirs)

    def admit(self, initiation: bytes) -> tuple[Member, noise.ConsumedInitiation]:
        """Return who sent an initiation that may be answered. HandshakeError, counted."""
        with self.counting():
            consumed = noise.consume_initiation(self._own, initiation)
            member = self._roster.member_of(consumed.peer_public)
            if member is None:
                raise HandshakeError(Refusal.UNKNOWN_PEER)
            member.guard.admit(consumed.timestamp, clock.boottime_s())
            return member, consumed

    def conclude(self, member: Member, state: noise.InitiatorState, response: bytes) -> SessionKeys:
        """Return the keys that a response gives. HandshakeError, counted."""
        with self.counting():
            preshared_key = member.peer.preshared_key or NO_PRESHARED_KEY
            return noise.consume_response(self._own, state, response, preshared_key)

    def initiate(
        self, member: Member, cookie: bytes | None = None
    ) -> tuple[bytes, noise.InitiatorState]:
        """Return a new initiation to a member, with what its cookie reply gave."""
        return noise.initiate(self._own, member.peer.public_key, cookie=cookie)

    def _agree(self, member: Member, keys: SessionKeys, theirs: Hello) -> Greeted:
        ours = self.hello_for(member)
        link_format, aead = hello.agree(ours, theirs, Wire.WIREGUARD)
        self.results["ok"] += 1
        return Greeted(member, link_format, theirs.software, theirs, keys, aead)

    async def _send_hello(
        self, connection: socket.socket, keys: SessionKeys, member: Member
    ) -> None:
        content = hello.encode(self.hello_for(member))
        await frames.send(connection, transport.seal_data(keys.send, keys.remote_index, 0, content))

    def _open_hello(self, keys: SessionKeys, message: bytes) -> Hello:
        with self.counting():
            counter, content = transport.open_data(keys.receive, keys.local_index, message)
            if counter != 0:
                raise HandshakeError(Refusal.COUNTER_LIMIT)
        return hello.decode(content)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count the refusal that leaves the ``with`` block."""
        try:
            yield
        except HandshakeError as error:
            self.results[error.reason] += 1
            raise
