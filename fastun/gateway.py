"""The gateway: the supervising process of ``fastun serve`` and ``fastun connect``.

    device (kernel) --fd--> lane (four workers, two rings) <--fd-- link (one TCP connection)

The gateway makes the device, starts the lane, and finds the link: ``serve`` accepts, ``connect``
dials, both greet, and hand the socket to the lane. It then waits for whatever ends the link, the
lane or the patience of the person who started it. No packet passes through here.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastun import control, log, metrics
from fastun._native import Offload, Wire
from fastun.channel import AnyMessage, DeviceGone, LinkEnded, LinkFormat
from fastun.config import Settings
from fastun.device import Device
from fastun.endpoint import Endpoint, format_host_port
from fastun.errors import FastunError, RuntimeFailure
from fastun.lane import Lane, Worker
from fastun.link import hello, tcp

# Connections that have not said hello yet, in all: one real client and some noise. More are closed
# unanswered.
GREETING_MAX = 16

# A client that re-dials can arrive before the end of its old link has been noticed.
OLD_LINK_GRACE_S = 1.0

# A simpletun link says nothing when it is refused; one that lived so long was not. It is longer
# than a serving fastun keeps a second client waiting. Where there is a hello, that is the proof.
STABLE_SIMPLETUN_LINK_S = 2.0


@dataclass
class Link:
    """The connection that the lane carries."""

    id: int
    connection: socket.socket
    remote: str
    link_format: LinkFormat
    peer_software: str
    since: float = field(default_factory=time.time)  # Unix time
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def is_proven(self) -> bool:
        """Return whether the peer took us: the next dial need not wait longer than the last."""
        has_hello = self.link_format.wire == Wire.PLAIN
        return has_hello or time.time() - self.since > STABLE_SIMPLETUN_LINK_S


@dataclass
class LinkCounts:
    """What happened to links since the start."""

    established: int = 0
    reconnects: int = 0
    refused: int = 0  # a client of an insecure wire while another lived
    failed_hellos: int = 0


class Gateway:
    """One running tunnel end. Everything but reading attributes happens on the event loop."""

    def __init__(self, settings: Settings, device: Device) -> None:
        """Prepare; ``device`` stays the caller's to close."""
        self.settings = settings
        self.device = device
        self.started = time.time()
        self.link: Link | None = None
        self.counts = LinkCounts()
        self.lane = Lane(
            0,
            device.fd,
            hello.format_without_peer(settings),
            on_message=self._on_message,
            on_death=self._on_death,
            on_failure=self._fail,
        )
        self._hello = hello.own(settings, device.offload_max)
        self._stopped: asyncio.Future[None] | None = None
        self._greeting: set[asyncio.Task[None]] = set()
        self._log = log.get("gateway")

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raises FastunError when it cannot go on."""
        loop = asyncio.get_running_loop()
        self._stopped = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(metrics.serve(self, self.settings.metrics))
            await stack.enter_async_context(control.serve(self, self.settings))
            await stack.enter_async_context(self._running_lane())
            await stack.enter_async_context(self._links())
            self._log.info(
                "up",
                interface=self.settings.interface,
                addresses=" ".join(map(str, self.settings.addresses)) or "none",
                wire=self.settings.wire,
            )
            await self._stopped

    def _stop(self, why: str) -> None:
        assert self._stopped is not None  # noqa: S101 (set before the handlers are)
        if not self._stopped.done():
            self._log.info("stopping", signal=why)
            self._stopped.set_result(None)

    def _fail(self, error: FastunError) -> None:
        assert self._stopped is not None  # noqa: S101 (set before the lane starts)
        if not self._stopped.done():
            self._stopped.set_exception(error)

    @contextlib.asynccontextmanager
    async def _running_lane(self) -> AsyncIterator[None]:
        try:
            self.lane.start()
            yield
        finally:
            self._end_link("stopping")
            await self.lane.stop()

    @contextlib.asynccontextmanager
    async def _links(self) -> AsyncIterator[None]:
        """Look for links as long as the context lasts."""
        if self.settings.endpoint is None:
            listeners = [s for endpoint in self.settings.listen for s in tcp.listen(endpoint)]
            tasks = [asyncio.create_task(self._accept(listener)) for listener in listeners]
        else:
            listeners = []
            tasks = [asyncio.create_task(self._dial(self.settings.endpoint))]
        for task in tasks:
            task.add_done_callback(self._on_task_done)
        try:
            yield
        finally:
            for listener in listeners:
                listener.close()
            everything = [*tasks, *self._greeting]
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, FastunError):
            self._log.error("unexpected error", exc_info=error)
            error = RuntimeFailure(f"unexpected error: {error!r}; please report it")
        self._fail(error)

    # -- finding a link -----------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        """Greet whoever connects, several at a time: one that is silent delays nobody."""
        loop = asyncio.get_running_loop()
        self._log.info("listening", address=format_host_port(*listener.getsockname()[:2]))
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # out of descriptors, or the connection is gone already
                self._log.warning("cannot accept", error=error.strerror)
                await asyncio.sleep(tcp.BACKOFF_FIRST_S)
                continue
            if len(self._greeting) >= GREETING_MAX:
                connection.close()
                self.counts.refused += 1
                continue
            task = asyncio.create_task(self._welcome(connection))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _welcome(self, connection: socket.socket) -> None:
        """Take an accepted connection as the link, if there is none and it greets well."""
        remote = tcp.remote_address(connection)
        try:
            tcp.tune(connection)
            if not await self._is_free():
                self.counts.refused += 1
                self._log.debug("refused: another client is connected", remote=remote)
                connection.close()
                return
            await self._greet(connection, remote)
        except (hello.HelloError, OSError) as error:
            self.counts.failed_hellos += 1
            self._log.debug("no link", remote=remote, error=str(error) or type(error).__name__)
            connection.close()
        except BaseException:
            connection.close()
            raise

    async def _is_free(self) -> bool:
        """Return whether there is no link, giving an old one a moment to end."""
        if self.link is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.link.ended.wait(), OLD_LINK_GRACE_S)
        return self.link is None

    async def _dial(self, endpoint: Endpoint) -> None:
        """Keep a link to ``endpoint``: dial, greet, wait for its end, dial again."""
        delays = tcp.backoff_delays_s()
        while True:
            try:
                connection = await tcp.dial(endpoint)
                try:
                    link = await self._greet(connection, str(endpoint))
                except BaseException:
                    connection.close()
                    raise
                await link.ended.wait()
                if link.is_proven():
                    delays = tcp.backoff_delays_s()
            except socket.gaierror as error:
                if self.counts.established == 0:
                    raise RuntimeFailure(
                        f"{endpoint}: the host cannot be resolved ({error.strerror}); "
                        "check its spelling and this host's DNS"
                    ) from None
                self._log.warning("cannot resolve", endpoint=str(endpoint), error=error.strerror)
            except (hello.HelloError, OSError) as error:
                reason = str(error) or "no answer in time"
                self._log.warning("no link", endpoint=str(endpoint), error=reason)
            await asyncio.sleep(next(delays))

    async def _greet(self, connection: socket.socket, remote: str) -> Link:
        """Say hello where the wire has one, and make the connection the link."""
        link_format, offload = hello.format_without_peer(self.settings), Offload.NONE
        software = "simpletun"
        if self.settings.wire == "plain":
            theirs = await hello.exchange(connection, self._hello)
            link_format, offload = hello.agree(self._hello, theirs)
            software = theirs.software
        if self.link is not None:  # another client's hello was quicker
            raise hello.HelloError("another client is connected")
        return self._establish(connection, remote, link_format, offload, software)

    # -- the link -----------------------------------------------------------------------------

    def _establish(
        self,
        connection: socket.socket,
        remote: str,
        link_format: LinkFormat,
        offload: Offload,
        software: str,
    ) -> Link:
        self.counts.established += 1
        self.counts.reconnects += self.counts.established > 1
        link = Link(self.counts.established, connection, remote, link_format, software)
        self.link = link
        # A super-packet read before the tun-reader learns the new format would be dropped.
        self.device.set_offload(Offload.NONE)
        self.lane.set_link(link.id, connection.fileno(), link_format)
        self.device.set_offload(offload)
        self._log.info("link up", remote=remote, peer=software, super_packets=offload.name.lower())
        return link

    def _end_link(self, reason: str) -> None:
        link, self.link = self.link, None
        if link is None:
            return
        self.lane.set_link(link.id, -1, link.link_format)
        # The workers hold duplicates of the descriptor; this ends the stream for all of them.
        with contextlib.suppress(OSError):
            link.connection.shutdown(socket.SHUT_RDWR)
        link.connection.close()
        link.ended.set()
        self._log.info("link down", remote=link.remote, reason=reason)

    # -- what workers report ------------------------------------------------------------------

    def _on_message(self, worker: Worker, message: AnyMessage) -> None:
        if isinstance(message, LinkEnded):
            if self.link is not None and message.link_id == self.link.id:
                self._end_link(message.reason)
        elif isinstance(message, DeviceGone):
            self._fail(
                RuntimeFailure(
                    f"interface {self.settings.interface} was deleted by somebody else "
                    f"({message.reason}); start fastun again"
                )
            )
        else:
            self._log.error("unexpected message", worker=worker.name, message=repr(message))

    def _on_death(self, worker: Worker) -> None:
        """End the link where its stream is out of step now.

        A dead link-writer may have stopped inside a frame, a dead link-reader has taken bytes with
        it. The other two hold no state of the stream: their successors just go on.
        """
        if worker.role in ("link-writer", "link-reader"):
            self._end_link(f"{worker.role} died")


def run(settings: Settings) -> None:
    """Run a gateway until it is asked to stop. Raises FastunError."""
    log.configure(settings.log_format, settings.verbosity)
    if settings.metrics_are_exposed:
        log.get("gateway").warning("the metrics can be read by other hosts")
    with Device(settings) as device:
        asyncio.run(Gateway(settings, device).run())


__all__ = ["Gateway", "Link", "LinkCounts", "run"]
