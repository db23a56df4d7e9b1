"""The gateway's side of the control socket (fastun.status.control).

Answered in threads, so a status comes even while the event loop is busy. Everything that a client
sends is bounded in size and time, and their number too. The socket is of fastun.host.run_directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import socketserver
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, NamedTuple

from fastun import codec
from fastun.bounded_server import CLIENTS_MAX, EXCHANGE_TIMEOUT_S, BoundedServer
from fastun.errors import ConfigError, FastunError
from fastun.gateway.view import TakeView, ViewClosedError
from fastun.host import run_directory
from fastun.status import control
from fastun.status.capture_service import CaptureService
from fastun.status.control import (
    COMMANDS,
    REQUEST_BYTES_MAX,
    DrainWanted,
    Reply,
    Request,
)
from fastun.status.reading import read_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from fastun.gateway.reload import Reloaded


@contextlib.asynccontextmanager
async def serve(
    listening: AbstractAsyncContextManager[socket.socket],
    take_view: TakeView,
    refresh_peers: Callable[[], None],
    reload: Callable[[], Coroutine[None, None, Reloaded]],
    captures: Callable[[asyncio.AbstractEventLoop], CaptureService],
    *,
    drain: Callable[[float | None], None],
) -> AsyncIterator[None]:
    """Answer on the socket of ``listening`` as long as the context lasts.

    ``refresh_peers``, ``reload`` and ``drain`` run on the event loop, which ``captures`` is given.

    Raises RuntimeFailure when the run directory cannot be used, or another gateway uses the socket.
    """
    loop = asyncio.get_running_loop()

    async def refresh() -> None:
        refresh_peers()

    def refresh_and_wait() -> None:
        asyncio.run_coroutine_threadsafe(refresh(), loop).result(EXCHANGE_TIMEOUT_S)

    def reload_and_wait() -> Reloaded:
        return asyncio.run_coroutine_threadsafe(reload(), loop).result(control.RELOAD_TIMEOUT_S)

    def drain_and_wait(wanted: DrainWanted) -> None:
        async def order() -> None:
            drain(wanted.timeout_s)

        asyncio.run_coroutine_threadsafe(order(), loop).result(EXCHANGE_TIMEOUT_S)

    async with listening as listener:
        calls = _Calls(take_view, refresh_and_wait, reload_and_wait, captures(loop), drain_and_wait)
        server = _Server(listener, calls)
        server.start()
        try:
            yield
        finally:
            server.stop()


class _Calls(NamedTuple):
    """What the commands do. Any thread."""

    take_view: TakeView
    refresh_peers: Callable[[], None]
    reload: Callable[[], Reloaded]
    captures: CaptureService
    drain: Callable[[DrainWanted], None]


class _Server(BoundedServer, socketserver.UnixStreamServer):
    name = "control"

    def __init__(self, listener: socket.socket, calls: _Calls) -> None:
        super().__init__(listener, _Exchange)
        self._calls = calls

    def reply_to(self, connection: socket.socket, encoded: bytes) -> Reply | None:
        """Carry out the request that came by a connection; None: it was answered. Any thread."""
        try:
            request = codec.unpack(encoded, Request, REQUEST_BYTES_MAX)
        except codec.CodecError as error:
            return Reply(error=f"malformed request: {error}")
        if request.command not in COMMANDS:
            known = ", ".join(COMMANDS)
            return Reply(error=f"unknown command {request.command!r:.80}; use one of: {known}")
        if request.command == "reload":
            self.give_time(connection, control.RELOAD_TIMEOUT_S)
            return self._reloaded()
        if request.command == "capture":
            return self._captured(connection, request)
        return self._status_after(request)

    def _status_after(self, request: Request) -> Reply:
        try:
            if request.command == "peers-changed":
                self._calls.refresh_peers()
            if request.command == "drain":
                self._drain(request)
            return Reply(status=read_status(self._calls.take_view()))
        except ViewClosedError:
            return Reply(error="it is stopping")
        except FastunError as error:
            return Reply(error=str(error), exit_code=error.exit_code)

    def _drain(self, request: Request) -> None:
        if request.drain is None:
            raise ConfigError("to drain it within which time?")
        self._calls.drain(request.drain)

    def _reloaded(self) -> Reply:
        try:
            done = self._calls.reload()
        except FastunError as error:
            return Reply(error=str(error), exit_code=error.exit_code)
        except (TimeoutError, CancelledError):
            return Reply(error="it takes too long; its log will say what became of it")
        said = (done.changes, done.needs_restart, done.left_out, done.remarks)
        return Reply(reloaded=control.Reloaded(*said))

    def _captured(self, connection: socket.socket, request: Request) -> Reply | None:
        if request.capture is None:
            return Reply(error="a capture of what?")
        keep = lambda: self.keep(connection)  # noqa: E731
        return self._calls.captures.serve(connection, request.capture, keep)


class _Exchange(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        try:
            encoded = control.receive(self.request, REQUEST_BYTES_MAX)
        except control.TooLongError as error:
            reply: Reply | None = Reply(
                error=f"a request of {error.n_bytes} bytes; at most {REQUEST_BYTES_MAX}"
            )
        else:
            reply = self.server.reply_to(self.request, encoded)
        if reply is not None:
            control.send(self.request, codec.pack(reply))


@contextlib.asynccontextmanager
async def own_socket(path: Path) -> AsyncIterator[socket.socket]:
    """Make the socket at ``path`` with the rights of this process, and remove it at the end."""
    made = await asyncio.to_thread(run_directory.ControlSocket, path, CLIENTS_MAX)
    try:
        yield made.listener
    finally:
        made.close()
