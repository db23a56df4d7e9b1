"""Finding links: ``serve`` accepts connections, ``connect`` dials its server again and again.

Both greet and then offer the connection to the gateway (``establish``). An unauthenticated
connection costs some microseconds and a place among the arrivals (arrivals.py), which are limited
in all and for each source: silent connections, however many, do not keep a real client out.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from fastun import descriptors, log
from fastun.endpoint import Endpoint, format_host_port
from fastun.errors import RuntimeFailure
from fastun.link.hello import HelloError
from fastun.link.inside import LeadsInsideError
from fastun.link.preference import Preference
from fastun.link.source_limits import HANDSHAKES_PER_SECOND, SourceLimits
from fastun.link.stream import listener_filter
from fastun.link.stream import sockets as tcp
from fastun.link.stream.arrivals import Arrival, Arrivals
from fastun.link.stream.handshake import Handshaker
from fastun.link.stream.listener_filter import TurnedAway
from fastun.session.refusal import HandshakeError

if TYPE_CHECKING:
    from fastun.gateway.gateway import Gateway, LinkCounts
    from fastun.link.table import Link

# Connections that are accepted before others have a turn: some milliseconds.
ACCEPTED_AT_ONCE = 64

# A refused client may come back at once, and each attempt would be a line.
WARNING_INTERVAL_S = 60.0

# What keeps the kernel from giving us a connection does not pass at once, and each try is a line.
ACCEPT_RETRY_S = 1.0

# A client that re-dials can arrive before the end of its old link has been noticed.
OLD_LINK_GRACE_S = 1.0

# A simpletun link says nothing when it is refused; one that lived so long was not. It is longer
# than a serving fastun keeps a second client waiting. Where there is a hello, that is the proof.
STABLE_SIMPLETUN_LINK_S = 2.0


def find_links(gateway: Gateway) -> list[Coroutine[None, None, None]]:
    """Return what finds a gateway's links, each to be run: an acceptor, a dialler, a choice.

    On UDP nothing has to be found but the choice between it and streams: sessions there begin by
    themselves, of which those with a known endpoint are begun here.
    """
    settings, datagrams = gateway.settings, gateway.datagrams
    for host, port in gateway.sockets.ports():
        log.get("link").info("listening", address=format_host_port(host, port), transport="udp")
    endpoints = settings.listen if settings.role == "serve" else settings.endpoints
    streams = tuple(endpoint for endpoint in endpoints if endpoint.scheme == "tcp")
    wanted = asyncio.Event()
    work: list[Coroutine[None, None, None]] = []
    if datagrams is not None and streams and settings.role == "connect":
        preference = Preference(gateway.lane, gateway.links, datagrams, slot=0)
        wanted = preference.wants_stream
        work.append(preference.run())
    else:
        wanted.set()
        if datagrams is not None:
            datagrams.begin_all()
    if streams and settings.role == "serve":
        work.append(Acceptor(streams, gateway.handshaker, gateway, gateway.counts).run())
    elif streams:
        work.append(Dialler(streams, gateway.handshaker, gateway, wanted).run())
    return work


class Acceptor:
    """Waits for clients on all endpoints.

    What a stranger can make us do is bounded by source first: each may make as many connections as
    handshakes on UDP (source_limits.py). One over its limit is closed at once, and if it goes on,
    turned away by the kernel (listener_filter.py). The others have a place among the arrivals until
    their first message is there; only then does one cost a task.
    """

    def __init__(
        self,
        endpoints: tuple[Endpoint, ...],
        handshaker: Handshaker,
        gateway: Gateway,
        counts: LinkCounts,
    ) -> None:
        """Prepare to listen on ``endpoints``."""
        self._endpoints = endpoints
        self._handshaker = handshaker
        self._gateway = gateway
        self._counts = counts
        self._has_refused = False
        self._warned_s = float("-inf")
        self._limits = SourceLimits()
        self._turned_away = TurnedAway((), self._on_dropped)
        self._arrivals = Arrivals(handshaker, self._greet, self._on_refused, self._on_failed)
        self._handshaking: set[asyncio.Task[None]] = set()
        self._log = log.get("link")

    async def run(self) -> None:
        """Listen and accept. Raises RuntimeFailure where that is not possible."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            listeners = [
                stack.enter_context(listener)
                for endpoint in self._endpoints
                for listener in tcp.listen(endpoint, self._gateway.settings.fwmark)
            ]
            self._turned_away = TurnedAway(listeners, self._on_dropped)
            stack.callback(self._turned_away.close)
            for listener in listeners:
                loop.add_reader(listener, self._on_readable, listener)
                stack.callback(loop.remove_reader, listener)
                self._log.info("listening", address=format_host_port(*listener.getsockname()[:2]))
            try:
                await loop.create_future()  # until cancelled
            finally:
                self._arrivals.close()
                for task in self._handshaking:
                    task.cancel()
                await asyncio.gather(*self._handshaking, return_exceptions=True)

    # -- accepting: a few microseconds for each connection -------------------------------------

    def _on_readable(self, listener: socket.socket) -> None:
        """Accept some; the rest after others have had their turn."""
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                connection, address = listener.accept()
                self._receive(connection, tcp.source_of(address[0]))
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
            if listener.fileno() >= 0:
                loop.add_reader(listener, self._on_readable, listener)

        loop.call_later(ACCEPT_RETRY_S, go_on)

    def _receive(self, connection: socket.socket, source: bytes) -> None:
        now_s = asyncio.get_running_loop().time()
        if descriptors.is_spare(connection.fileno()):
            self._refuse(connection)
        elif not self._limits.take(source, now_s):
            connection.close()
            self._on_too_many(source, now_s)
        else:
            arrival = self._arrivals.add(connection, source)
            if not self._handshaker.opening_bytes:
                self._greet(arrival)

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
                source=tcp.name_of(source),
                most_per_second=HANDSHAKES_PER_SECOND,
            )

    def _on_refused(self) -> None:
        self._counts.refused += 1

    def _on_dropped(self, n_syns: int) -> None:
        self._counts.refused += n_syns

    def _on_failed(self, arrival: Arrival, why: str) -> None:
        self._counts.failed_hellos += 1
        self._log.debug("no link", source=tcp.name_of(arrival.source), error=why)

    # -- greeting ------------------------------------------------------------------------------

    def _greet(self, arrival: Arrival) -> None:
        arrival.task = task = asyncio.create_task(self._accept(arrival))
        self._handshaking.add(task)
        task.add_done_callback(self._handshaking.discard)

    async def _accept(self, arrival: Arrival) -> None:
        """Make an accepted connection a link, if it greets well."""
        connection = arrival.connection
        remote = tcp.remote_address(connection)
        with contextlib.ExitStack() as unless_established:
            unless_established.callback(connection.close)
            unless_established.callback(self._arrivals.leave, arrival)
            try:
                if self._gateway.inside.holds_connection(connection):
                    self._log.debug("refused: it arrived through the tunnel", remote=remote)
                    self._counts.refused += 1
                    return
                tcp.tune(connection)
                listener_filter.detach(connection)
                if not await self._has_room():
                    self._counts.refused += 1
                    self._log.debug("refused: another client is connected", remote=remote)
                    return
                established = await self._handshaker.accept(connection, arrival.opening)
                self._gateway.establish(established, connection, remote)
                self._arrivals.leave(arrival)
                unless_established.pop_all()
            except (HelloError, HandshakeError, OSError) as error:
                self._counts.failed_hellos += 1
                self._log.debug("no link", remote=remote, error=str(error) or "too slow")
            except asyncio.CancelledError:
                if self._handshaker.opening_bytes:  # the peer greets on a newer connection
                    self._counts.failed_hellos += 1
                raise

    async def _has_room(self) -> bool:
        """Return whether there is room for a client, giving an old link a moment to end."""
        in_the_way = self._gateway.room_made()
        if in_the_way is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(in_the_way.wait(), OLD_LINK_GRACE_S)
        return self._gateway.has_room()


class Dialler:
    """Keeps a link to one server."""

    def __init__(
        self,
        endpoints: tuple[Endpoint, ...],
        handshaker: Handshaker,
        gateway: Gateway,
        wanted: asyncio.Event,
    ) -> None:
        """Prepare to dial ``endpoints`` in turn, each attempt the next, while it is ``wanted``."""
        self._wanted = wanted
        self._endpoints = itertools.cycle(endpoints)
        self._endpoint = endpoints[0]
        self._handshaker = handshaker
        self._gateway = gateway
        self._has_resolved = False
        self._log = log.get("link")

    async def run(self) -> None:
        """Dial, greet, wait for the link's end, dial again.

        Raises RuntimeFailure when the host cannot be resolved the first time.
        """
        delays = tcp.backoff_delays_s()
        while True:
            await self._wanted.wait()
            self._endpoint = next(self._endpoints)
            try:
                if await self._carry_one_link():
                    delays = tcp.backoff_delays_s()
            except socket.gaierror as error:
                if not self._has_resolved:
                    raise RuntimeFailure(
                        f"{self._endpoint}: the host cannot be resolved ({error.strerror}); "
                        "check its spelling and this host's DNS"
                    ) from None
                self._warn(error.strerror or str(error))
            except LeadsInsideError:
                name = self._gateway.peer_slots.by_slot[0].peer.name
                self._gateway.inside.note(name, str(self._endpoint), is_inside=True)
            except HandshakeError as error:
                self._warn(f"the handshake failed ({error})")
            except (HelloError, OSError) as error:
                self._warn(str(error) or "no answer in time")
            await asyncio.sleep(next(delays))

    async def _carry_one_link(self) -> bool:
        """Return when a link has ended: whether it was one that the peer had taken."""
        loop = asyncio.get_running_loop()
        link, has_hello = await self._make_link()
        since = loop.time()
        await link.ended.wait()
        return has_hello or loop.time() - since > STABLE_SIMPLETUN_LINK_S

    async def _make_link(self) -> tuple[Link, bool]:
        """Return a new link, and whether the peer has said hello."""
        with contextlib.ExitStack() as unless_established:
            connection = await tcp.dial(
                self._endpoint, self._gateway.settings.fwmark, self._gateway.inside
            )
            unless_established.callback(connection.close)
            self._has_resolved = True
            established = await self._handshaker.connect(connection)
            link = self._gateway.establish(established, connection, str(self._endpoint))
            unless_established.pop_all()
        return link, established.hello is not None

    def _warn(self, reason: str) -> None:
        self._log.warning("no link", endpoint=str(self._endpoint), error=reason)
