"""What the kernel has no memory or room for now is done a moment later."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Any

import pytest

from fastun.host.process.channel import HostChannel
from fastun.host.process.messages import Done, by_tag
from fastun.lane.channel import Channel
from fastun.lane.heartbeat import Heartbeat
from fastun.lane.worker_process import WorkerProcess
from tests.support.running_lane import Owner, running, until

if TYPE_CHECKING:
    from collections.abc import Callable


class Short(socket.socket):
    """A socket whose first calls fail with these errors."""

    errors: list[int]

    def recvmsg(self, *arguments: Any) -> Any:
        self._fail()
        return super().recvmsg(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        self._fail()
        return super().sendmsg(*arguments)

    def _fail(self) -> None:
        if self.errors:
            raise OSError(self.errors.pop(0), "no room")


def pair(*errors: int) -> tuple[Short, socket.socket]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    short = Short(fileno=one.detach())
    short.errors = list(errors)
    return short, other


def test_a_worker_that_waits_rests_and_tries_again() -> None:
    end, other = pair(errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN)
    rests = list[None]()
    with end, other:
        channel = Channel(end)
        channel.bear_shortages(lambda: rests.append(None))
        channel.send(Heartbeat())
        assert len(rests) == 3
        end.errors = [errno.ENOMEM]
        Channel(other).send(Heartbeat())
        assert channel.receive() == (Heartbeat(), [])
        assert len(rests) == 4


def test_one_that_does_not_wait_takes_it_for_a_full_or_an_empty_channel() -> None:
    end, other = pair(errno.ENOBUFS, errno.ENOMEM)
    with end, other:
        channel = Channel(end)
        channel.bear_shortages(lambda: pytest.fail("it waits"))
        channel.set_blocking(False)
        with pytest.raises(BlockingIOError):
            channel.send(Heartbeat())
        with pytest.raises(BlockingIOError):
            channel.receive()


def test_other_errors_and_the_gateways_own_end_are_left_as_they_are() -> None:
    end, other = pair(errno.ENOBUFS, errno.EPERM)
    with end, other:
        channel = Channel(end)
        with pytest.raises(OSError, match="no room"):
            channel.send(Heartbeat())
        channel.bear_shortages(lambda: pytest.fail("it waits"))
        with pytest.raises(PermissionError):
            channel.send(Heartbeat())


def test_the_host_process_and_its_client_wait_for_memory() -> None:
    end, other = pair(errno.ENOBUFS, errno.ENOMEM)
    with end, other:
        one, two = HostChannel(end, by_tag(Done)), HostChannel(other, by_tag(Done))
        one.send(1, Done())
        received = two.receive()
        assert received is not None
        assert received.number == 1
        end.errors = [errno.ENOMEM]
        two.send(2, Done())
        assert one.receive() is not None


def lane(claim: Callable[[Owner], Any]) -> None:
    async def run() -> None:
        async with running() as owner:
            await claim(owner)

    asyncio.run(run())


@pytest.mark.slow
def test_a_worker_that_cannot_be_watched_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, refused = WorkerProcess.watch, list[int]()

    def refuse_once(worker: WorkerProcess, *callbacks: Any) -> None:
        if not refused:
            refused.append(worker.pid or 0)
            raise OSError(errno.ENOSPC, "No space left on device")
        watch(worker, *callbacks)

    async def claim(owner: Owner) -> None:
        monkeypatch.setattr(WorkerProcess, "watch", refuse_once)
        owner.kill()
        await until(lambda: refused and owner.lane.is_whole())
        assert owner.worker().pid != refused[0]

    lane(claim)


@pytest.mark.slow
def test_what_cannot_be_read_now_is_read_later(monkeypatch: pytest.MonkeyPatch) -> None:
    receive, failed = Channel.receive, list[None]()

    def fail_twice(channel: Channel) -> Any:
        if len(failed) < 2:
            failed.append(None)
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return receive(channel)

    async def claim(owner: Owner) -> None:
        worker = owner.worker()
        monkeypatch.setattr(Channel, "receive", fail_twice)
        worker.silent_s = 1.0
        worker.send(Heartbeat())
        await until(lambda: len(failed) == 2 and worker.silent_s == 0.0)

    lane(claim)
