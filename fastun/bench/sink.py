"""The served end of ``fastun bench``: an echo, a sink or a source, for one client at a time.

It runs only on request, touches no file, and takes nothing from what it receives
but the 16 bytes of a request.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fastun.bench.protocol import (
    ECHO_BYTES,
    MAGIC,
    STALL_S,
    Kind,
    Request,
    decode_request,
    encode_received,
    encode_request,
    receive_all,
    receive_exactly,
    send_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# One that connects has something to ask; longer it may not keep others waiting.
_REQUEST_S = 2.0
_REQUEST_BYTES = len(encode_request(Request(Kind.ECHO, 1)))
# How fast it notices that it is to stop.
_LOOK_S = 0.2


def serve(
    listeners: Sequence[socket.socket],
    goes_on: Callable[[], bool],
    tell: Callable[[str, Request], None] = lambda _remote, _request: None,
) -> None:
    """Serve clients, one after the other, while `goes_on()`.

    `tell` is called with the client's address and its request when an exchange begins.
    """
    with selectors.DefaultSelector() as selector:
        for listener in listeners:
            listener.setblocking(False)
            selector.register(listener, selectors.EVENT_READ)
        while goes_on():
            for key, _ in selector.select(_LOOK_S):
                with contextlib.suppress(OSError):  # it gave up, or the tunnel ended: the next one
                    connection, remote = key.fileobj.accept()  # type: ignore[union-attr]
                    with connection:
                        _exchange(connection, lambda r, host=remote[0]: tell(host, r))  # type: ignore[misc]


def _exchange(connection: socket.socket, tell: Callable[[Request], None]) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        request = decode_request(receive_exactly(connection, _REQUEST_BYTES, _REQUEST_S))
    except ValueError:
        return
    tell(request)
    connection.settimeout(STALL_S)
    connection.sendall(MAGIC)
    {Kind.ECHO: _echo, Kind.SINK: _sink, Kind.SOURCE: _source}[request.kind](connection, request)


def _echo(connection: socket.socket, request: Request) -> None:
    until_s = time.monotonic() + request.limit_s
    while time.monotonic() < until_s:
        received = receive_exactly(connection, ECHO_BYTES)
        if len(received) < ECHO_BYTES:
            return
        connection.sendall(received)


def _sink(connection: socket.socket, request: Request) -> None:
    connection.sendall(encode_received(receive_all(connection, request.limit_s)))


def _source(connection: socket.socket, request: Request) -> None:
    send_for(connection, request.duration_ms / 1000)
    connection.recv(1)  # it hangs up when it has everything


@contextlib.contextmanager
def attending(listeners: Sequence[socket.socket]) -> Iterator[None]:
    """Serve from a thread meanwhile; the listeners are closed at the end."""
    stopped = threading.Event()
    thread = threading.Thread(target=serve, args=(listeners, lambda: not stopped.is_set()))
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        thread.start()
        stack.callback(thread.join)
        stack.callback(stopped.set)
        yield
