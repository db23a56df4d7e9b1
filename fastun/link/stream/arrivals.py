"""Unauthenticated connections: how many there may be, for how long, and which is closed first.

    accepted --> silent: no task, no timer of its own, only a place among the arrivals
             --> the whole first message is there and plausible (Handshaker.check_opening)
             --> handshake: no longer an arrival, so never closed to make room for silent ones

An honest client sends its first message immediately after the TCP handshake. So when there is no
room, a silent connection can be closed: the oldest one of the busiest source, or of one of these at
random. So even if many sources connect and stay silent, a client keeps its place for as long as its
message takes.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable

import msgspec

from fastun.link.hello import HELLO_TIMEOUT_S, HelloError, HungUpError
from fastun.link.stream import framing
from fastun.link.stream.handshake import Handshaker
from fastun.session.refusal import HandshakeError

# Silent connections, in all and from one source. Each is some 2 KiB of gateway memory and some
# 8 KiB of the kernel's.
ARRIVALS_MAX = 256
ARRIVALS_PER_SOURCE_MAX = 64

# How long one may be silent while more than half of the places are taken.
PRESSED_TIMEOUT_S = 1.0

# How long the rest of a first message may take. Its sender sends it in one piece; only the network
# may cut it.
REST_TIMEOUT_S = 1.0

_SWEEP_S = 0.1


class Arrival(msgspec.Struct, eq=False):
    """One connection. Times are the event loop's."""

    connection: socket.socket
    source: bytes
    since_s: float
    opening: bytes = b""  # what has come of its first message
    first_byte_s: float | None = None
    task: asyncio.Task[None] | None = msgspec.field(default=None)  # on the unsealed wires


class Arrivals:
    """All of them. Event loop only."""

    def __init__(
        self,
        handshaker: Handshaker,
        on_opening: Callable[[Arrival], None],
        on_refused: Callable[[], None],
        on_failed: Callable[[Arrival, str], None],
    ) -> None:
        """Begin without any.

        ``on_opening`` is called with each whose first message is there, and then owns it. The other
        two are called before one is closed: because there is no room, or because it is invalid.
        """
        self._handshaker = handshaker
        self._on_opening = on_opening
        self._on_refused = on_refused
        self._on_failed = on_failed
        self._of_source: dict[bytes, dict[Arrival, None]] = {}  # oldest first
        self._n = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: socket.socket, source: bytes) -> Arrival:
        """Give an accepted connection a place, closing another if needed, and start to read it."""
        self._make_room(source)
        loop = asyncio.get_running_loop()
        arrival = Arrival(connection, source, loop.time())
        self._of_source.setdefault(source, {})[arrival] = None
        self._n += 1
        connection.setblocking(False)
        if self._handshaker.opening_bytes:
            loop.add_reader(connection, self._read, arrival)
            if self._timer is None:
                self._timer = loop.call_later(_SWEEP_S, self._sweep)
        return arrival

    def leave(self, arrival: Arrival) -> None:
        """Remove one without closing its connection. May be called again."""
        mine = self._of_source.get(arrival.source, {})
        if arrival not in mine:
            return
        del mine[arrival]
        self._n -= 1
        if not mine:
            del self._of_source[arrival.source]
        if self._handshaker.opening_bytes:
            asyncio.get_running_loop().remove_reader(arrival.connection)

    def close(self) -> None:
        """Close all."""
        if self._timer is not None:
            self._timer.cancel()
        for arrival in self._all():
            self._let_go(arrival)

    # -- room ---------------------------------------------------------------------------------

    def _all(self) -> list[Arrival]:
        return [arrival for mine in self._of_source.values() for arrival in mine]

    def _make_room(self, source: bytes) -> None:
        """Close one if there are too many, of this source first."""
        mine = self._of_source.get(source, {})
        if len(mine) >= ARRIVALS_PER_SOURCE_MAX:
            crowd = mine
        elif self._n >= ARRIVALS_MAX:
            most = max(map(len, self._of_source.values()))
            crowds = [each for each in self._of_source.values() if len(each) == most]
            crowd = random.choice(crowds)  # noqa: S311 (whoever guesses it has gained nothing)
        else:
            return
        self._on_refused()
        self._let_go(next(iter(crowd)))

    def _let_go(self, arrival: Arrival) -> None:
        self.leave(arrival)
        if arrival.task is None:
            arrival.connection.close()
        else:
            arrival.task.cancel()  # which closes it

    # -- reading ------------------------------------------------------------------------------

    def _read(self, arrival: Arrival) -> None:
        """Read what has arrived, never beyond the first message: the rest is read elsewhere."""
        try:
            if self._receive(arrival):
                framing.wake_for(arrival.connection, 1)
                self.leave(arrival)
                self._on_opening(arrival)
        except BlockingIOError:
            return
        except (HelloError, HandshakeError, OSError) as error:
            self._fail(arrival, str(error))

    def _receive(self, arrival: Arrival) -> bool:
        """Return whether all of the first message is there, and may be one."""
        n_missing = self._handshaker.opening_bytes - len(arrival.opening)
        piece = arrival.connection.recv(n_missing)
        if not piece:
            raise HungUpError("the peer closed the connection before its first message")
        if arrival.first_byte_s is None:
            arrival.first_byte_s = asyncio.get_running_loop().time()
        arrival.opening += piece
        self._handshaker.check_opening(arrival.opening)
        n_missing -= len(piece)
        if n_missing:
            # Wake up once or twice for the rest: a sender of single bytes must not wake us often.
            n_of_head = framing.HEAD_BYTES - len(arrival.opening)
            framing.wake_for(arrival.connection, n_of_head if n_of_head > 0 else n_missing)
        return n_missing == 0

    def _fail(self, arrival: Arrival, why: str) -> None:
        self._on_failed(arrival, why)  # counted before the peer can see that it is closed
        self._let_go(arrival)

    def _sweep(self) -> None:
        """Close those whose time is up."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        is_pressed = self._n > ARRIVALS_MAX // 2
        silent_s = PRESSED_TIMEOUT_S if is_pressed else HELLO_TIMEOUT_S
        for arrival in self._all():
            first_byte_s = arrival.first_byte_s
            if first_byte_s is None:
                is_late = now_s - arrival.since_s > silent_s
            else:
                is_late = now_s - first_byte_s > REST_TIMEOUT_S
            if is_late:
                self._fail(arrival, "too slow")
        self._timer = loop.call_later(_SWEEP_S, self._sweep) if self._n else None
