"""How long a gateway runs: until it is asked to stop, or one of its tasks fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine

from fastun import ending, log
from fastun.ending import AskedToStop
from fastun.errors import FastunError, RuntimeFailure, one_line


class Life:
    """One run of a gateway, and the tasks that are part of it. Made on the event loop."""

    def __init__(self) -> None:
        """Begin."""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_hang_up: Callable[[], None] = lambda: None  # SIGHUP, but not of a terminal
        self._log = log.get("gateway")

    def end_when_asked(self, asked: socket.socket) -> None:
        """End when ``asked`` becomes readable because of a stop signal (ending.py)."""
        asyncio.get_running_loop().add_reader(asked, self._on_signal, asked)

    async def wait(self) -> None:
        """Wait for the end. Raises FastunError: the failure that it was."""
        await self._ended

    def finish(self, why: str) -> None:
        """End as by a request to stop."""
        ending.ask(why)
        if not self._ended.done():
            self._log.info("stopping", reason=why)
            self._ended.set_result(None)

    def fail(self, error: FastunError) -> None:
        """End by a failure; one after the request to stop is said, and does not count.

        What ends then may take something from what still runs.
        """
        if self._ended.done():
            return
        if ending.is_asked() and not isinstance(error, AskedToStop):
            self._log.warning("a failure while stopping", error=one_line(str(error)))
            error = AskedToStop()
        self._ended.set_exception(error)

    @contextlib.asynccontextmanager
    async def running(self, work: Coroutine[None, None, None]) -> AsyncIterator[None]:
        """Run a coroutine beside the rest; its failure ends the gateway."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._on_task_done)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _on_signal(self, asked: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            asked.recv(256)
        if ending.take_hang_up():
            self.on_hang_up()
        if not ending.is_asked():
            return
        asyncio.get_running_loop().remove_reader(asked)
        if not self._ended.done():
            self._log.info("stopping", signal=ending.reason())
            self._ended.set_result(None)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, FastunError):
            self._log.error("unexpected error", exc_info=error)
            error = RuntimeFailure(f"unexpected error: {error!r}; please report it")
        self.fail(error)
