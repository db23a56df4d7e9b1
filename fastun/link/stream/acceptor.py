"""Accepting streams: how ``serve`` gets its links over TCP.

    listen --> accept --> a place among the arrivals (arrivals.py) --> handshake --> LinkOwner

An unauthenticated connection costs some microseconds and a place among the arrivals, which are
limited in all and for each source: silent connections, however many, do not keep a real client out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import msgspec

from fastun import descriptors, log
from fastun.host.sockets.syn_filter import attach, detach
from fastun.link.hello import HelloError
from fastun.link.inside import Inside
from fastun.link.source_limits import (
    HANDSHAKES_PER_SECOND,
    SourceLimits,
    host_of,
    name_of,
    source_of,
)
from fastun.link.stream import sockets
from fastun.link.stream.arrivals import Arrival, Arrivals
from fastun.link.stream.handshake import Handshaker
from fastun.link.stream.listener_filter import Attach, TurnedAway
from fastun.link.stream.owner import StreamOwner
from fastun.session.refusal import HandshakeError

# Connections that are accepted before others have a turn: some milliseconds.
ACCEPTED_AT_ONCE = 64

# A refused client may come back at once, and each attempt would be a line.
WARNING_INTERVAL_S = 60.0

# What keeps the kernel from giving us a connection does not pass at once, and each try is a line.
ACCEPT_RETRY_S = 1.0

# A client that re-dials can arrive before the end of its old link has been noticed.
OLD_LINK_GRACE_S = 1.0


class ConnectionCounts(msgspec.Struct):
    """What happened to accepted connections since the start."""

    refused: int = 0  # a client of an insecure wire while another lived, or too many at once
    failed_hellos: int = 0


class Acceptor:
    """Waits for clients on all listeners.

    What a stranger can make us do is bounded by source first: each may make as many connections as
    handshakes on UDP (source_limits.py). One above its limit is closed at once, and if it goes on,
    turned away by the kernel (listener_filter.py). The others have a place among the arrivals until
    their first message is there; only then does one cost a task.
    """

    def __init__(
        self,
        listeners: asyncio.Queue[socket.socket],
        handshaker: Handshaker,
        owner: StreamOwner,
        inside: Inside,
        counts: ConnectionCounts,
        *,
        turn_away: Attach = attach,
    ) -> None:
        """Prepare to accept from ``listeners``, which stay the caller's to close.

        A connection from ``inside`` the tunnel is refused.
        """
        self._new_listeners = listeners
        self._listeners: list[socket.socket] = []
        self._handshaker = handshaker
        self._owner = owner
        self._inside = inside
        self._counts = counts
        self._has_refused = False
        self._warned_s = float("-inf")
        self._limits = SourceLimits()
        self._turned_away = TurnedAway(self._listeners, self._on_dropped, turn_away)
        self._arrivals = Arrivals(handshaker, self._begin, self._on_refused, self._on_failed)
        self._handshaking: set[asyncio.Task[None]] = set()
        self._log = log.get("link")

    async def run(self) -> None:
        """Accept from each listener as soon as it is there."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            stack.callback(self._turned_away.close)
            stack.callback(self._listeners.clear)
            try:
                while True:
                    listener = await self._new_listeners.get()
                    self._listeners.append(listener)
                    loop.add_reader(listener, self._on_readable, listener)
            finally:
                for listener in tuple(self._listeners):
                    self.leave(listener)
                self._arrivals.close()
                for task in self._handshaking:
                    task.cancel()
                await asyncio.gather(*self._handshaking, return_exceptions=True)

    def leave(self, listener: socket.socket) -> None:
        """Accept no more from a listener, which is to be closed."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            asyncio.get_running_loop().remove_reader(listener)

    # -- accepting: a few microseconds for each connection -------------------------------------

    def _on_readable(self, listener: socket.socket) -> None:
        """Accept some; the rest after others have had their turn."""
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                connection, address = listener.accept()
                self._receive(connection, source_of(address[0]))
        except BlockingIOError:
            pass
        except OSError as error:  # out of memory, or the connection is gone already
            self._log.warning("cannot accept", error=error.strerror)
            self._pause(listener)
        self._turned_away.apply()

    def _pause(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def go_on() -> None:
            if listener in self._listeners:
                loop.add_reader(listener, self._on_readable, listener)

        loop.call_later(ACCEPT_RETRY_S, go_on)

    def _receive(self, connection: socket.socket, source: bytes) -> None:
        now_s = asyncio.get_running_loop().time()
        if descriptors.is_spare(connection.fileno()):
            self._refuse(connection)
        elif not self._limits.take(host_of(source), now_s):
            connection.close()
            self._on_too_many(source, now_s)
        else:
            arrival = self._arrivals.add(connection, source)
            if not self._handshaker.opening_bytes:
                self._begin(arrival)

    def _refuse(self, connection: socket.socket) -> None:
        """Let one go for which there is no descriptor to spare. The first is worth a line."""
        connection.close()
        self._counts.refused += 1
        if not self._has_refused:
            self._has_refused = True
            self._log.warning("connections are refused: too many open files; see fastun doctor")

    def _on_too_many(self, source: bytes, now_s: float) -> None:
        self._counts.refused += 1
        self._turned_away.refuse(source, now_s)
        if now_s - self._warned_s >= WARNING_INTERVAL_S:
            self._warned_s = now_s
            self._log.warning(
                "connections are refused: too many from one source",
                source=name_of(source),
                most_per_second=HANDSHAKES_PER_SECOND,
            )

    def _on_refused(self) -> None:
        self._counts.refused += 1

    def _on_dropped(self, n_syns: int) -> None:
        self._counts.refused += n_syns

    def _on_failed(self, arrival: Arrival, why: str) -> None:
        self._counts.failed_hellos += 1
        self._log.debug("no link", source=name_of(arrival.source), error=why)

    # -- handshakes ----------------------------------------------------------------------------

    def _begin(self, arrival: Arrival) -> None:
        arrival.task = task = asyncio.create_task(self._accept(arrival))
        self._handshaking.add(task)
        task.add_done_callback(self._handshaking.discard)

    async def _accept(self, arrival: Arrival) -> None:
        """Make an accepted connection a link, if its handshake succeeds."""
        connection = arrival.connection
        remote = sockets.remote_address(connection)
        with contextlib.ExitStack() as unless_established:
            unless_established.callback(connection.close)
            unless_established.callback(self._arrivals.leave, arrival)
            try:
                if self._inside.holds_connection(connection):
                    self._log.debug("refused: it arrived through the tunnel", remote=remote)
                    self._counts.refused += 1
                    return
                sockets.tune(connection)
                detach(connection)
                if not await self._has_room():
                    self._counts.refused += 1
                    self._log.debug("refused: another client is connected", remote=remote)
                    return
                established = await self._handshaker.accept(connection, arrival.opening)
                self._owner.establish(established, connection, remote)
                self._arrivals.leave(arrival)
                unless_established.pop_all()
            except (HelloError, HandshakeError, OSError) as error:
                self._counts.failed_hellos += 1
                self._log.debug("no link", remote=remote, error=str(error) or "too slow")
            except asyncio.CancelledError:
                if (
                    self._handshaker.opening_bytes
                ):  # the peer has begun a handshake on a newer connection
                    self._counts.failed_hellos += 1
                raise

    async def _has_room(self) -> bool:
        """Return whether there is room for a client, giving an old link a moment to end."""
        in_the_way = self._owner.room_made()
        if in_the_way is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OLD_LINK_GRACE_S):
                    await in_the_way.wait()
        return self._owner.has_room()
