"""A server whose clients can cost neither the event loop nor much else: bounded in number and time.

    thread of run(): accept --> a thread an exchange --> the subclass's request handler
                     cut off whoever has had its time, or is one too many

The metrics address and the control socket are both such servers. Threads, since one scrape of a
thousand peers takes a tenth of a second of Python, which on the event loop would hold up every
handshake; and the standard library's threading servers read HTTP for us. A thread waits for its
client without limit; the server ends that by shutting the connection down, so it does not matter
how steadily a slow client sends.
"""

from __future__ import annotations

import contextlib
import math
import socket
import socketserver
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fastun import log, threads

# Prometheus, a probe or two and some people; each costs a thread. Beyond that the oldest connection
# of the busiest source is closed, so that silent clients, however many, do not block the next one.
# One whose answer is being made keeps its place: that ends by itself.
CLIENTS_MAX = 16

# For a whole request and its answer, however slowly either moves. Both take milliseconds.
EXCHANGE_TIMEOUT_S = 5.0

# While there is no descriptor for a connection, it stays in the queue, and accept fails at once. So
# may the wait for one where the kernel has no memory.
_ACCEPT_RETRY_S = 0.1

# For so long a connection is not closed to make room: by then its request is read, or its answer.
_GRACE_S = 0.1
_PLACE_RETRY_S = 0.02


class BoundedServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers in threads, within bounds. ``name`` is the component in the log."""

    name: str
    daemon_threads = True

    # socketserver's 5 would have a burst of clients wait a second for the next SYN.
    request_queue_size = 2 * CLIENTS_MAX

    def __init__(
        self, bound: socket.socket, handler: type[socketserver.BaseRequestHandler]
    ) -> None:
        """Listen on a bound socket, which is this server's from now on. Raises OSError."""
        self._free = threading.BoundedSemaphore(CLIENTS_MAX)
        # Those that may be shut down, the oldest first, and when that is due. The lock keeps a
        # thread from closing its connection meanwhile: the descriptor could be another's by then.
        self._due_s: dict[socket.socket, float] = {}
        self._source_of: dict[socket.socket, bytes] = {}  # of the same
        self._since_s: dict[socket.socket, float] = {}  # when the server last began to wait for it
        self._lock = threading.Lock()
        self._is_stopping = False
        # TCPServer's would make a socket of its own, which the gateway may not.
        socketserver.BaseServer.__init__(self, bound.getsockname(), handler)
        self.socket = bound
        bound.setblocking(True)  # socketserver waits as long as the socket does
        self.server_activate()

    def start(self) -> None:
        """Answer in a thread of its own until :meth:`stop`."""
        threading.Thread(target=self.run, name=self.name, daemon=True).start()

    def run(self) -> None:
        """Answer until :meth:`stop`."""
        while not self._is_stopping:
            self.timeout = self._time_left_s()
            try:
                self.handle_request()
            except OSError:  # the kernel has no memory to wait with
                time.sleep(_ACCEPT_RETRY_S)
            self._cut_off_due()
        self.server_close()

    def stop(self) -> None:
        """End :meth:`run` at once. The shutdown of serve_forever would take up to 0.5 s."""
        self._is_stopping = True
        with contextlib.suppress(OSError):  # run() has just had a client, and closed it already
            self.socket.shutdown(socket.SHUT_RDWR)

    def source(self, client_address: Any) -> bytes:
        """Return what counts as one source of connections."""
        del client_address
        return b""

    # -- bounds -------------------------------------------------------------------------------

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; wait a moment when there is no descriptor for it."""
        try:
            return super().get_request()
        except OSError:
            if not self._is_stopping:
                time.sleep(_ACCEPT_RETRY_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a client, and cut another off if there are too many."""
        is_free = self._free.acquire(blocking=False)
        while not is_free:
            is_cut_off = self._cut_off_of_most()
            is_free = self._free.acquire(timeout=None if is_cut_off else _PLACE_RETRY_S)
        with self._lock:
            self._due_s[request] = time.monotonic() + EXCHANGE_TIMEOUT_S
            self._source_of[request] = self.source(client_address)
            self._since_s[request] = time.monotonic()
        try:
            threads.start(self.process_request_thread, request, client_address)
        except BaseException:  # no thread to be had
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a client, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def shutdown_request(self, request: Any) -> None:
        """End a connection, in its thread."""
        with self._lock:
            self._forget(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what ended a client's thread."""
        del request, client_address
        error = sys.exception()
        if isinstance(error, (OSError, EOFError)):  # it hung and was cut off, or hung up itself
            log.get(self.name).debug("client cut off", error=str(error))
        else:
            log.get(self.name).error("unexpected error", exc_info=error)

    def give_time(self, request: Any, seconds: float) -> None:
        """Let a client wait so long for its answer, from now on."""
        with self._lock:
            if request in self._due_s:
                self._due_s[request] = time.monotonic() + seconds

    @contextlib.contextmanager
    def answering(self, request: Any) -> Iterator[None]:
        """Keep a client's place while its answer is made, whoever else comes."""
        self._set_since(request, math.inf)
        try:
            yield
        finally:
            self._set_since(request, time.monotonic())

    def _set_since(self, request: Any, since_s: float) -> None:
        with self._lock:
            if request in self._since_s:
                self._since_s[request] = since_s

    def keep(self, request: Any) -> None:
        """Let a client stay for as long as its handler does, whoever else comes."""
        with self._lock:
            self._forget(request)

    def _time_left_s(self) -> float | None:
        """Return when the next client is due, None when there is none."""
        with self._lock:
            due_s = min(self._due_s.values(), default=None)
        return None if due_s is None else max(0.0, due_s - time.monotonic())

    def _cut_off_due(self) -> None:
        """Shut down the connections that are due."""
        with self._lock:
            for request, due_s in list(self._due_s.items()):
                if due_s <= time.monotonic():
                    self._cut_off(request)

    def _cut_off_of_most(self) -> bool:
        """Shut down the oldest connection of the source that has most; False: it is to wait."""
        since_before_s = time.monotonic() - _GRACE_S
        with self._lock:
            n_of_source = Counter(self._source_of.values())
            for request, source in self._source_of.items():
                is_of_most = n_of_source[source] == max(n_of_source.values())
                if is_of_most and self._since_s[request] <= since_before_s:
                    self._cut_off(request)
                    return True
        return False

    def _cut_off(self, request: socket.socket) -> None:
        """Shut a connection down: its thread finds that and ends."""
        self._forget(request)
        with contextlib.suppress(OSError):  # the client is gone already
            request.shutdown(socket.SHUT_RDWR)

    def _forget(self, request: socket.socket) -> None:
        self._due_s.pop(request, None)
        self._source_of.pop(request, None)
        self._since_s.pop(request, None)
