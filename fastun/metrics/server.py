"""The metrics address: /metrics for Prometheus, /healthz and /readyz for whoever supervises.

    GET /metrics --> Collector --> FAMILIES --> shared memory, /proc, TCP_INFO, the gateway
    GET /healthz     200 while all workers run
    GET /readyz      200 while traffic can pass: for connect, that takes a link as well

An HTTP server in a daemon thread, with a short-lived thread a request. It waits for nobody: neither
the event loop nor a worker takes part in a scrape. What one scrape reads may therefore be of
slightly different instants, but a counter never goes back.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import socket
import socketserver
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import (
    CONTENT_TYPE_PLAIN_0_0_4,
    ThreadingWSGIServer,
    generate_latest,
    gzip_accepted,
)

from fastun import ending, log
from fastun.endpoint import format_host_port
from fastun.errors import RuntimeFailure
from fastun.link.source_limits import SourceLimits, source_of
from fastun.metrics.collector import GatewayCollector

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from fastun.gateway.gateway import Gateway

# For a whole request and its answer, however slowly either moves: a scrape takes milliseconds, for
# some 30 KiB and 600 bytes a peer.
REQUEST_TIMEOUT_S = 5.0

# The highest takes ten times as long for a tenth less.
COMPRESSION_LEVEL = 1

# Prometheus, a probe or two and a person; each costs a thread. Beyond that the oldest connection of
# the busiest source is closed, so that silent clients, however many, do not block the next scrape.
# Sources other than loopback also have a rate limit, as on the tunnel's own port: a request costs
# some 0.5 ms of the interpreter that the gateway's event loop needs.
REQUESTS_MAX = 16

# While there is no descriptor for a connection, it stays in the queue, and accept fails at once.
_ACCEPT_RETRY_S = 0.1


@contextlib.contextmanager
def serve(gateway: Gateway, listen: tuple[str, int] | None) -> Iterator[None]:
    """Answer on ``listen`` (host, port) as long as the context lasts; None: no server.

    Raises RuntimeFailure when the address cannot be had.
    """
    if listen is None:
        yield
        return
    server = _bind(*listen)
    collector = GatewayCollector(gateway)
    server.set_app(_application(gateway, collector))
    threading.Thread(target=server.run, name="metrics", daemon=True).start()
    try:
        yield
    finally:
        server.stop()
        collector.close()


# -- answering --------------------------------------------------------------------------------


class _Server(ThreadingWSGIServer):
    """prometheus_client's server, for IPv6 too, and bounded: in threads, and in a request's time.

    A thread waits for its client without an end; the server's own ends it by shutting the
    connection down.
    """

    # socketserver's 5 would have a burst of clients wait a second for the next SYN.
    request_queue_size = 2 * REQUESTS_MAX

    def __init__(self, family: socket.AddressFamily, address: Any) -> None:
        self.address_family = family
        self._free = threading.BoundedSemaphore(REQUESTS_MAX)
        # Those that may be shut down, the oldest first, and when that is due. The lock keeps a
        # thread from closing its connection meanwhile: the descriptor could be another's by then.
        self._due_s: dict[socket.socket, float] = {}
        self._source_of: dict[socket.socket, bytes] = {}  # of the same
        self._limits = SourceLimits()
        self._lock = threading.Lock()
        self._is_stopping = False
        super().__init__(address, _Handler)

    def run(self) -> None:
        """Answer until :meth:`stop`."""
        while not self._is_stopping:
            self.timeout = self._time_left_s()
            self.handle_request()
            self._cut_off_due()
        self.server_close()

    def stop(self) -> None:
        """End :meth:`run` at once. The shutdown of serve_forever would take up to 0.5 s."""
        self._is_stopping = True
        self.socket.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        # HTTPServer's would ask DNS for our name, which can take seconds and serves nobody.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            if not self._is_stopping:
                time.sleep(_ACCEPT_RETRY_S)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether a client may ask; its connection is closed otherwise."""
        del request
        host = client_address[0]
        is_loopback = ip_address(host.removeprefix("::ffff:").partition("%")[0]).is_loopback
        return is_loopback or self._limits.take(source_of(host), time.monotonic())

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self._cut_off_of_most()
            self._free.acquire()
        with self._lock:
            self._due_s[request] = time.monotonic() + REQUEST_TIMEOUT_S
            self._source_of[request] = source_of(client_address[0])
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread to be had
            self._free.release()
            raise

    def _time_left_s(self) -> float | None:
        """Return when the oldest client is due, None when there is none."""
        with self._lock:
            due_s = next(iter(self._due_s.values()), None)
        return None if due_s is None else max(0.0, due_s - time.monotonic())

    def _cut_off_due(self) -> None:
        """Shut the oldest connection down, if it is due."""
        with self._lock:
            request, due_s = next(iter(self._due_s.items()), (None, 0.0))
            if request is not None and due_s <= time.monotonic():
                self._cut_off(request)

    def _cut_off_of_most(self) -> None:
        """Shut down the oldest connection of the source that has most."""
        with self._lock:
            n_of_source = Counter(self._source_of.values())
            if n_of_source:
                most, _ = n_of_source.most_common(1)[0]
                self._cut_off(next(r for r, source in self._source_of.items() if source == most))

    def _cut_off(self, request: socket.socket) -> None:
        """Shut a connection down: its thread finds that and ends."""
        self._forget(request)
        with contextlib.suppress(OSError):  # the client is gone already
            request.shutdown(socket.SHUT_RDWR)

    def _forget(self, request: socket.socket) -> None:
        self._due_s.pop(request, None)
        self._source_of.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._forget(request)
        super().shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address
        error = sys.exception()
        if isinstance(error, OSError):  # it hung and was cut off, or did not wait for its answer
            log.get("metrics").debug("client cut off", error=str(error))
        else:
            log.get("metrics").error("unexpected error", exc_info=error)


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing: scrapes would fill the log."""

    def get_stderr(self) -> io.StringIO:
        """Return a place for wsgiref's tracebacks of clients that hang up: they are no events."""
        return io.StringIO()


def _bind(host: str, port: int) -> _Server:
    where = f"--metrics {format_host_port(host, port)}"
    try:
        found = ending.unless_asked(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        )
        family, _, _, _, address = found[0]
        return _Server(family, address)
    except socket.gaierror as error:
        raise RuntimeFailure(
            f"{where}: the host cannot be resolved ({error.strerror}); give an address of this host"
        ) from None
    except OSError as error:
        mend = {
            errno.EADDRINUSE: "the port is in use; choose another, or --metrics off",
            errno.EADDRNOTAVAIL: "no interface of this host has that address; choose another",
            errno.EACCES: "ports under 1024 need root; choose a higher one",
        }.get(error.errno or 0, f"{error.strerror}; choose another address, or --metrics off")
        raise RuntimeFailure(f"{where}: {mend}") from None


_Application = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]


def _scrape(collector: GatewayCollector) -> _Application:
    own_process = CollectorRegistry()
    ProcessCollector(registry=own_process)

    def scrape(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        body = collector.text().encode() + generate_latest(own_process)
        headers = [("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)]
        if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            body = gzip.compress(body, COMPRESSION_LEVEL)
            headers.append(("Content-Encoding", "gzip"))
        start_response("200 OK", headers)
        return [body]

    return scrape


def _application(gateway: Gateway, collector: GatewayCollector) -> _Application:
    scrape = _scrape(collector)

    def health() -> tuple[bool, str]:
        missing = [worker.name for worker in gateway.lane.workers.values() if not worker.is_ready]
        return not missing, f"not at work: {' '.join(missing)}" if missing else "all workers run"

    def readiness() -> tuple[bool, str]:
        is_healthy, text = health()
        if is_healthy and gateway.settings.role == "connect" and not gateway.links.by_slot:
            return False, "no link"
        return is_healthy, text if not is_healthy else "ready"

    probes = {"/healthz": health, "/readyz": readiness}

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            status, text = "405 Method Not Allowed", "GET or HEAD"
        elif path == "/metrics":
            try:
                body = scrape(environ, start_response)
            except Exception:
                log.get("metrics").error("unexpected error", exc_info=True)
                raise
            return body if method == "GET" else []
        elif path in probes:
            is_good, text = probes[path]()
            status = "200 OK" if is_good else "503 Service Unavailable"
        else:
            status, text = "404 Not Found", "there are /metrics, /healthz and /readyz"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()] if method != "HEAD" else []

    return answer
