"""The metrics address: /metrics for Prometheus, /healthz and /readyz for a supervisor.

    GET /metrics --> GatewayCollector --> FAMILIES --> a view of the gateway
    GET /healthz     200 while all workers run
    GET /readyz      200 while traffic can pass: for connect, that takes a link as well, for serve
                     all addresses that it listens on. DNS that does not work is a line of it

Neither the event loop nor a worker takes part in an answer. Which text format a scrape gets, and
whether compressed, is what it asks for: Prometheus's own or OpenMetrics (prometheus_client's
encoders).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gzip
import io
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from fastun import ending, log, native
from fastun.bounded_server import BoundedServer
from fastun.endpoint import format_host_port
from fastun.errors import RuntimeFailure
from fastun.gateway.view import TakeHealth, TakeView
from fastun.host.dns.resolved import NotYetError
from fastun.host.sockets import binding
from fastun.host.sockets.address import EndpointAddress
from fastun.host.sockets.maker import OWN, SocketMaker
from fastun.link.names import RETRY_S
from fastun.link.source_limits import SourceLimits, source_of
from fastun.metrics.collector import GatewayCollector
from fastun.metrics.library import (
    Collector,
    CollectorRegistry,
    Metric,
    ProcessCollector,
    WSGIRequestHandler,
    WSGIServer,
    choose_encoder,
    gzip_accepted,
    openmetrics,
)

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

# The highest takes ten times as long for a tenth less.
COMPRESSION_LEVEL = 1

# What OpenMetrics ends with.
_END = b"# EOF\n"

# In a request's environment: what keeps its place while the answer is made.
_ANSWERING = "fastun.answering"

# Of an answer about some hundred peers: what it took is not needed before the next scrape.
_LARGE_BYTES = 256 * 1024


class MetricsServer:
    """Answers on the metrics address, which may change."""

    def __init__(
        self, take_view: TakeView, take_health: TakeHealth, sockets: SocketMaker = OWN
    ) -> None:
        """Answer nowhere yet; ``sockets`` makes the one to listen on."""
        self._sockets = sockets
        self._answer = _application(Exposition(take_view), take_health)
        self._server: _Server | None = None
        self._given_up = threading.Event()  # set: what waits for DNS is not wanted any more
        self._lock = threading.Lock()
        self._log = log.get("metrics")

    def begin(self, where: tuple[str, int]) -> None:
        """Answer on ``where`` (host, port); wait beside for a name that DNS does not know yet.

        Raises RuntimeFailure when the server cannot listen there.
        """
        try:
            self._replace(ending.unless_asked(lambda: _bind(self._sockets, where)))
        except NotYetError as error:
            self._log.warning(error.why)
            later = threading.Thread(
                target=self._begin_later, args=(where, self._given_up), name="metrics", daemon=True
            )
            later.start()

    def change(self, where: tuple[str, int] | None) -> None:
        """Answer on ``where`` alone from now on; None: nowhere. Blocks for names.

        Raises RuntimeFailure when the server cannot listen there; then nothing has changed.
        """
        before, now = self._server, None
        if where is not None:
            try:
                with binding.overlapping([] if before is None else [before.socket]):
                    now = _bind(self._sockets, where, is_beside=before is not None)
            except NotYetError as error:
                raise RuntimeFailure(error.why) from None
        self._given_up.set()
        self._given_up = threading.Event()
        self._replace(now)

    def _replace(self, now: _Server | None) -> None:
        with self._lock:
            before, self._server = self._server, now
        if now is not None:
            now.set_app(self._answer)
            now.start()
        if before is not None:
            before.stop()

    def _begin_later(self, where: tuple[str, int], given_up: threading.Event) -> None:
        """Begin when the host's address is known, unless that is not wanted any more."""
        while not given_up.wait(RETRY_S):
            try:
                server = _bind(self._sockets, where)
            except NotYetError:
                continue
            except RuntimeFailure as error:
                self._log.warning(str(error))
                return
            if given_up.is_set():
                server.server_close()
                return
            self._replace(server)
            self._log.info("listening", address=format_host_port(*where))
            return


@contextlib.contextmanager
def serve(listen: tuple[str, int], take_view: TakeView, take_health: TakeHealth) -> Iterator[None]:
    """Answer on ``listen`` as long as the context lasts. As `MetricsServer.begin`."""
    server = MetricsServer(take_view, take_health)
    server.begin(listen)
    try:
        yield
    finally:
        server.change(None)


# -- answering --------------------------------------------------------------------------------


class Exposition:
    """What /metrics answers. Any thread."""

    def __init__(self, take_view: TakeView) -> None:
        """Register the gateway's families, and those of this process."""
        self._registry = CollectorRegistry()
        self._registry.register(GatewayCollector(take_view))
        ProcessCollector(registry=self._registry)

    def answer(self, accept: str, accept_encoding: str) -> tuple[list[tuple[str, str]], bytes]:
        """Return headers and body, in the format that these request headers ask for."""
        encode, content_type = _encoder(accept)
        body = self._encoded(encode)
        if len(body) >= _LARGE_BYTES:
            native.trim_memory()
        headers = [("Content-Type", content_type)]
        if gzip_accepted(accept_encoding):
            body = gzip.compress(body, COMPRESSION_LEVEL)
            headers.append(("Content-Encoding", "gzip"))
        return headers, body

    def _encoded(self, encode: _Encode) -> bytes:
        """Return all families, each encoded by itself.

        Of a thousand peers the lines of all are 3 MiB of small objects; what comes to lie between
        them keeps that memory for good.
        """
        parts = [encode(_Family(each)).removesuffix(_END) for each in self._registry.collect()]
        return b"".join((*parts, encode(_Family())))


class _Family(Collector):
    """One family, as an encoder takes it."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


_Encode = Callable[[Collector], bytes]


def _encoder(accept: str) -> tuple[_Encode, str]:
    try:  # a header may be folded, and part of it comes back in the content type
        encode, content_type = choose_encoder(" ".join(accept.split()))
    except TypeError:  # a version that is not a number
        encode, content_type = choose_encoder("")
    if content_type.startswith("application/openmetrics-text"):
        # Our names need no escaping, and looking in each for what to escape takes half as long
        # again; Prometheus before 3.0 does not ask to go without. ``encode`` is a partial of
        # openmetrics.generate_latest.
        encode = functools.partial(encode, escaping=openmetrics.ALLOWUTF8)  # type: ignore[call-arg]
    return encode, content_type


_Application = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]


def _application(exposition: Exposition, take_health: TakeHealth) -> _Application:
    def health() -> tuple[bool, str]:
        reason = take_health().not_healthy()
        return not reason, reason or "all workers run"

    def readiness() -> tuple[bool, str]:
        state = take_health()
        if reason := state.not_ready():
            return False, reason
        return True, "\n".join(filter(None, ("ready", state.ready_but())))

    probes = {"/healthz": health, "/readyz": readiness}

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        if method not in ("GET", "HEAD"):
            status, body = "405 Method Not Allowed", b"GET or HEAD\n"
        elif path == "/metrics":
            status = "200 OK"
            headers, body = scrape(environ)
        elif path in probes:
            is_good, text = probes[path]()
            status, body = "200 OK" if is_good else "503 Service Unavailable", f"{text}\n".encode()
        else:
            status, body = "404 Not Found", b"there are /metrics, /healthz and /readyz\n"
        start_response(status, headers)
        return [body] if method != "HEAD" else []

    def scrape(environ: WSGIEnvironment) -> tuple[list[tuple[str, str]], bytes]:
        try:
            with environ[_ANSWERING]():
                return exposition.answer(
                    environ.get("HTTP_ACCEPT", ""), environ.get("HTTP_ACCEPT_ENCODING", "")
                )
        except Exception:
            log.get("metrics").error("unexpected error", exc_info=True)
            raise

    return answer


# -- listening --------------------------------------------------------------------------------


class _Server(BoundedServer, WSGIServer):
    """A WSGI server, for IPv6 too, and bounded.

    Sources other than loopback also have a rate limit, as on the tunnel's own port: a request costs
    some 0.5 ms of the interpreter that the gateway's event loop needs.
    """

    name = "metrics"

    def __init__(self, bound: socket.socket) -> None:
        self._limits = SourceLimits()
        super().__init__(bound, _Handler)
        binding.allow_overlap(bound, is_allowed=False)
        # HTTPServer's server_bind would ask DNS for our name, which can take seconds for nothing.
        self.server_name, self.server_port = bound.getsockname()[:2]
        self.setup_environ()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether a client may ask; its connection is closed otherwise."""
        del request
        host = client_address[0]
        is_loopback = ip_address(host.removeprefix("::ffff:").partition("%")[0]).is_loopback
        return is_loopback or self._limits.take(source_of(host), time.monotonic())

    def source(self, client_address: Any) -> bytes:
        return source_of(client_address[0])


class _Handler(WSGIRequestHandler):
    server: _Server

    def get_environ(self) -> dict[str, Any]:
        """Add how the place is kept."""
        keep = functools.partial(self.server.answering, self.connection)
        return super().get_environ() | {_ANSWERING: keep}

    def log_message(self, *_: Any) -> None:
        """Say nothing: scrapes would fill the log."""

    def get_stderr(self) -> io.StringIO:
        """Return a place for wsgiref's tracebacks of clients that hang up: they are no events."""
        return io.StringIO()


def _bind(sockets: SocketMaker, at: tuple[str, int], *, is_beside: bool = False) -> _Server:
    host, port = at
    where = f"--metrics {format_host_port(host, port)}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        bound = sockets.listener(_address(found[0][4]), "metrics", is_beside=is_beside)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            why = f"{where}: the host cannot be resolved yet ({error.strerror}); waiting for DNS"
            raise NotYetError(why) from None
        raise RuntimeFailure(
            f"{where}: the host cannot be resolved ({error.strerror}); give an address of this host"
        ) from None
    except OSError as error:
        problem = {
            errno.EADDRINUSE: "the port is in use; choose another, or --metrics off",
            errno.EACCES: "ports under 1024 need root; choose a higher one",
        }.get(error.errno or 0, f"{error.strerror}; choose another address, or --metrics off")
        raise RuntimeFailure(f"{where}: {problem}") from None
    with contextlib.ExitStack() as undo:
        undo.callback(bound.close)
        server = _Server(bound)
        undo.pop_all()
        return server


def _address(found: tuple[Any, ...]) -> EndpointAddress:
    """Return where getaddrinfo says that a host is."""
    host, port, *rest = found
    return EndpointAddress(ip_address(host.partition("%")[0]), port, rest[1] if rest else 0)
