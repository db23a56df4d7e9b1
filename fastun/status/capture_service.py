"""The control socket's side of ``fastun capture``: the connection lasts as long as the capture.

The reply brings the rings' descriptors (SCM_RIGHTS). Whatever ends the client closes the
connection, which ends the capture at once, and the other way round.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from fastun import codec, log
from fastun.bounded_server import EXCHANGE_TIMEOUT_S
from fastun.errors import FastunError
from fastun.native import capture as native_capture
from fastun.status.control import CaptureBegun, CaptureWanted, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from fastun.gateway.captures import Captures, Running

# How soon it is noticed that the captured peer was removed: within one look at the directory.
_LOOK_S = 0.25


class CaptureService:
    """Begins captures, and waits for their ends, in the threads of the control socket."""

    def __init__(self, captures: Captures, mode: str, loop: asyncio.AbstractEventLoop) -> None:
        """Use the captures of the gateway, which live on the event loop."""
        self._captures = captures
        self._mode = mode
        self._loop = loop

    def serve(
        self, connection: socket.socket, wanted: CaptureWanted, keep: Callable[[], None]
    ) -> Reply | None:
        """Serve one client until either side ends it; return a refusal, or None afterwards.

        ``keep`` lets the connection last.
        """
        begin = self._captures.begin(wanted.stages, wanted.peer, wanted.snap_length)
        begun = asyncio.run_coroutine_threadsafe(begin, self._loop)
        try:
            running = begun.result(EXCHANGE_TIMEOUT_S)
        except FastunError as error:
            return Reply(error=str(error), exit_code=error.exit_code)
        except (TimeoutError, CancelledError):
            begun.add_done_callback(self._end_unowned)
            return Reply(error="it takes too long; its log will say why")
        log.get("control").info(
            "capture begins", stages=" ".join(wanted.stages), peer=wanted.peer or "all"
        )
        try:
            keep()
            self._send(connection, running)
            self._wait(connection, running)
        finally:
            self._end(running)
            log.get("control").info("capture ended")
        return None

    def _end_unowned(self, begun: Future[Running]) -> None:
        """End what begins after its client was refused: nothing else ends it."""
        if not begun.cancelled() and begun.exception() is None:
            self._end(begun.result())

    def _end(self, running: Running) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the gateway has stopped
            self._loop.call_soon_threadsafe(self._captures.end, running)

    def _send(self, connection: socket.socket, running: Running) -> None:
        begun = CaptureBegun(self._mode, running.ring_bytes, native_capture.layout())
        body = codec.pack(Reply(capture=begun))
        socket.send_fds(connection, [struct.pack(">I", len(body)) + body], list(running.fds))

    def _wait(self, connection: socket.socket, running: Running) -> None:
        connection.settimeout(_LOOK_S)
        while not self._captures.is_over(running):
            with contextlib.suppress(TimeoutError):
                connection.recv(1)  # it sends nothing more: this is its end
                return
