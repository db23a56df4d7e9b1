"""What a gateway says of its fleet's directory: once that it is not followed, once that it is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from fastun.config.fleet import Fleet
from fastun.fleet import messages
from fastun.fleet.messages import Changed, Now
from fastun.gateway import fleet_watch
from fastun.gateway.fleet_watch import FleetWatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FLEET = Fleet(directory="postgresql:///fastun", name="gw1")


class Process:
    """In place of the process: its channels, each of a start."""

    def __init__(self) -> None:
        self.channels: list[socket.socket] = []
        self.fails = False

    def start(self) -> socket.socket:
        if self.fails:
            raise OSError(12, "Cannot allocate memory")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channels.append(theirs)
        return ours

    def say(self, message: messages.Message) -> None:
        messages.send(self.channels[-1], message)


def watched(scene: Callable[[FleetWatch, Process, list[int]], Awaitable[None]]) -> list[Any]:
    """Run a scene beside a watch; return what was logged."""

    async def run() -> None:
        process, looks = Process(), [0]

        async def look() -> None:
            looks[0] += 1

        watch = FleetWatch(FLEET, process.start)
        task = asyncio.create_task(watch.run(look))
        try:
            await until(lambda: bool(process.channels))
            await scene(watch, process, looks)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for channel in process.channels:
                channel.close()

    with structlog.testing.capture_logs() as lines:
        asyncio.run(run())
    return lines


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (another task makes it true)
            await asyncio.sleep(0.005)


def test_a_change_is_looked_at_and_a_fault_is_said_once() -> None:
    async def scene(watch: FleetWatch, process: Process, looks: list[int]) -> None:
        process.say(Changed())
        process.say(Now(looked=time.time(), n_peers=3))
        await until(lambda: looks == [1] and watch.view().looked > 0)
        assert watch.view().fault == ""
        for n in range(3):
            process.say(Now(error="cannot be reached", looked=time.time(), n_failures=n + 1))
        await until(lambda: watch.view().n_failures == 3)
        assert watch.view().fault == "cannot be reached"
        process.say(Now(looked=time.time(), n_failures=3, left_out=1, why_left_out=("a: bad",)))
        await until(lambda: watch.view().fault == "")
        await asyncio.sleep(0.01)

    events = [line["event"] for line in watched(scene)]
    assert events == [
        "the fleet's directory cannot be followed; peers are those of the last time",
        "the fleet's directory is followed again",
        "a peer of the directory is left out",
    ]


def test_a_process_that_ends_or_talks_nonsense_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_watch, "_AGAIN_S", (0.01, 0.02))

    async def scene(watch: FleetWatch, process: Process, _: list[int]) -> None:
        process.channels[0].close()
        await until(lambda: len(process.channels) == 2)
        with contextlib.suppress(OSError):
            process.channels[1].send(b"\xc1 nonsense")
        await until(lambda: len(process.channels) == 3)
        process.fails = True
        process.channels[2].close()
        await until(lambda: "Cannot allocate memory" in watch.view().fault)
        process.fails = False
        await until(lambda: len(process.channels) == 4)
        await until(lambda: watch.view().fault == "")

    assert "the fleet's process has sent what is not a message" in [
        line["event"] for line in watched(scene)
    ]


def test_a_directory_that_is_not_looked_at_any_more_is_a_fault() -> None:
    async def scene(watch: FleetWatch, process: Process, _: list[int]) -> None:
        process.say(Now(looked=time.time() - fleet_watch.LATE_S - 5))
        await until(lambda: "has not answered for" in watch.view().fault)

    watched(scene)
