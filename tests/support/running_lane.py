"""A lane of real workers, on a socket in place of a device."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

from fastun.lane.boot import LanePlan
from fastun.lane.lane import Lane
from fastun.lane.template import Template
from fastun.lane.watch import LaneWatch
from fastun.native import Mode, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fastun.errors import RuntimeFailure
    from fastun.lane.messages import ToGateway
    from fastun.lane.worker_process import WorkerProcess


class Owner:
    """A lane, and what its owner has heard from it."""

    def __init__(self, device: socket.socket, template: Template, mode: Mode = Mode.TUN) -> None:
        self.started: list[str] = []
        self.died: list[str] = []
        self.failures: list[RuntimeFailure] = []
        self.messages: list[ToGateway] = []
        self.tell: Callable[[WorkerProcess], None] = lambda _: None
        self.template = template
        plan = LanePlan(device.fileno(), Wire.PLAIN, mode, switches=mode is Mode.TAP)
        self.lane = Lane(0, plan, template)
        self.watch = LaneWatch(self.lane.workers.values(), template)

    def on_start(self, worker: WorkerProcess) -> None:
        self.started.append(worker.role)
        self.tell(worker)

    def on_message(self, _: WorkerProcess, message: ToGateway) -> None:
        self.messages.append(message)

    def on_death(self, worker: WorkerProcess) -> None:
        self.died.append(worker.role)

    def on_failure(self, error: RuntimeFailure) -> None:
        self.failures.append(error)

    def worker(self, role: str = "link-writer") -> WorkerProcess:
        return self.lane.workers[role]

    def pid(self, role: str = "link-writer") -> int:
        pid = self.worker(role).pid
        assert pid is not None
        return pid

    def kill(self, role: str = "link-writer") -> None:
        os.kill(self.pid(role), signal.SIGKILL)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(mode: Mode = Mode.TUN) -> AsyncIterator[Owner]:
    """A lane at work; whatever happened to it, it stops, and no asyncio handler heard of it.

    That of a TAP device has a switch.
    """
    device, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    device.setblocking(False)  # as device_open leaves one
    loop, unhandled = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    with device, far_end, Template() as template:
        owner = Owner(device, template, mode)
        owner.lane.start(owner)
        try:
            await until(owner.lane.is_whole)
            yield owner
        finally:
            await owner.lane.stop()
    assert unhandled == []
