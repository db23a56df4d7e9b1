"""A lane of real workers, on a socket in place of a device: what becomes of those that fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from fastun.errors import RuntimeFailure
from fastun.lane import lane as lanes
from fastun.lane import worker_process
from fastun.lane.lane import RING_BYTES
from fastun.lane.messages import AddSocket, Boot, DetachLink, SendMessage, WorkerFailed
from fastun.lane.template import Template
from fastun.native import ROLES, SOCKETS_MAX, Mode, Offload, Wire
from tests.support.descriptors import (
    no_descriptor_left,
    open_descriptors,
    too_many_descriptors_in_flight,
)
from tests.support.running_lane import Owner, running, until

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fastun.lane.messages import ToWorker
    from fastun.lane.worker_process import WorkerProcess

pytestmark = pytest.mark.slow  # each starts real processes


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "RESPAWN_DELAY_S", 0.05)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 50))


# -- a worker that cannot be started ----------------------------------------------------------


def test_a_worker_that_cannot_be_spawned_is_tried_again_until_it_can() -> None:
    async def claim() -> None:
        async with running() as owner:
            n_before = len(open_descriptors())
            with no_descriptor_left():
                owner.kill()
                await until(lambda: owner.worker().boot_failures >= 2)
                assert not owner.lane.is_whole()
            await until(owner.lane.is_whole)
            assert owner.failures == []
            assert set(owner.died) == {"link-writer"}
            assert owner.started == [*ROLES, "link-writer"]
            assert owner.worker().boot_failures == 0
            assert len(open_descriptors()) == n_before

    run(claim())


def test_a_worker_that_can_never_be_spawned_ends_the_gateway() -> None:
    async def claim() -> None:
        async with running() as owner:
            owner.worker().confined = None  # as before the first one was ready
            with no_descriptor_left():
                owner.kill()
                await until(lambda: owner.failures)
                await asyncio.sleep(0.2)
            (failure,) = owner.failures
            assert "link-writer/0 failed to start 5 times" in str(failure)
            assert "Too many open files" in str(failure)

    run(claim())


def test_one_that_has_worked_is_tried_again_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "RESPAWN_DELAY_S", 0.01)

    async def claim() -> None:
        async with running() as owner:
            with no_descriptor_left():
                owner.kill()
                await until(lambda: owner.worker().boot_failures > 2 * lanes.BOOT_FAILURES_MAX)
            assert not owner.failures
            await until(owner.lane.is_whole)

    run(claim())


def test_a_worker_that_cannot_be_watched_is_killed_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No limit makes pidfd_open alone fail, so here it fails by itself."""
    watch, refused = os.pidfd_open, list[int]()

    def refuse_once(pid: int) -> int:
        if refused:
            return watch(pid)
        refused.append(pid)
        raise OSError(12, "Cannot allocate memory")

    async def claim() -> None:
        async with running() as owner:
            n_before = len(open_descriptors())
            monkeypatch.setattr(os, "pidfd_open", refuse_once)
            owner.kill()
            await until(lambda: refused)
            with pytest.raises(ProcessLookupError):
                os.kill(refused[0], 0)
            await until(owner.lane.is_whole)
            assert len(open_descriptors()) == n_before

    run(claim())


def test_a_worker_for_which_no_descriptor_can_be_duplicated_is_replaced() -> None:
    async def claim() -> None:
        async with running() as owner:
            refused = []

            def tell(worker: WorkerProcess) -> None:
                with no_descriptor_left() if not refused else contextlib.nullcontext():
                    refused.append(worker.role)
                    owner.lane.send(worker.role, DetachLink(1), 0)

            owner.tell = tell
            owner.kill()
            await until(lambda: len(refused) == 2)
            await until(owner.lane.is_whole)
            assert set(owner.died) == {"link-writer"}

    run(claim())


def test_what_was_made_while_there_was_no_worker_is_lost_when_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "SHORT_LIVES_MAX", 1)

    async def claim() -> None:
        async with running() as owner:
            owner.kill("tun-reader")
            await until(lambda: owner.died)
            owner.lane.send("tun-reader", DetachLink(1))  # there is none
            assert owner.died == ["tun-reader"]
            assert owner.started == [*ROLES]
            owner.tell = lambda worker: owner.died.append(f"{worker.role} is back")
            await until(owner.lane.is_whole)
            assert owner.died == ["tun-reader", "tun-reader", "tun-reader is back"]

    run(claim())


def test_workers_that_crash_one_after_another_are_replaced_without_haste(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "FAULTS_MAX", 2)
    monkeypatch.setattr(lanes, "SHORT_LIFE_S", 0.0)
    later, start_later = [], lanes.Lane._start_later  # noqa: SLF001

    def record(lane: lanes.Lane, worker: WorkerProcess, **how: bool) -> None:
        later.append(worker.role)
        start_later(lane, worker, **how)

    monkeypatch.setattr(lanes.Lane, "_start_later", record)

    async def claim() -> None:
        async with running() as owner:
            for role, n_later in (("link-writer", 0), ("tun-writer", 1), ("link-writer", 2)):
                owner.died.clear()
                os.kill(owner.pid(role), signal.SIGSEGV)
                await until(lambda: owner.died)
                await until(owner.lane.is_whole)
                assert len(later) == n_later

    run(claim())


def test_a_lane_that_stops_spawns_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "RESPAWN_DELAY_S", 0.3)

    async def claim() -> None:
        async with running() as owner:
            with no_descriptor_left():
                owner.kill()
                await until(lambda: owner.worker().boot_failures)
        await asyncio.sleep(0.5)
        assert owner.worker().pid is None

    run(claim())


# -- a worker that reads no messages ----------------------------------------------------------


def fill(owner: Owner) -> int:
    """Send until some wait; how many were sent. The worker does not read."""
    n_sent = 0
    while not owner.worker().unsent:
        owner.lane.send("link-writer", SendMessage(1, bytes(100)))
        n_sent += 1
    return n_sent


def test_what_a_slow_worker_has_not_read_comes_when_it_reads() -> None:
    async def claim() -> None:
        async with running() as owner:
            os.kill(owner.pid(), signal.SIGSTOP)
            fill(owner)
            for n in range(100):
                owner.lane.send("link-writer", SendMessage(1, bytes([n])))
            await asyncio.sleep(0.1)
            assert len(owner.worker().unsent) == 101
            os.kill(owner.pid(), signal.SIGCONT)
            await until(lambda: not owner.worker().unsent)
            await asyncio.sleep(0.3)
            assert owner.died == []

    run(claim())


def test_a_worker_that_reads_nothing_for_too_long_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_process, "UNREAD_MAX_S", 0.3)

    async def claim() -> None:
        async with running() as owner:
            n_before = len(open_descriptors())
            os.kill(owner.pid(), signal.SIGSTOP)
            fill(owner)
            owner.lane.send("link-writer", DetachLink(1), 0)  # its descriptor is not forgotten
            await until(lambda: owner.died == ["link-writer"])
            await until(owner.lane.is_whole)
            assert owner.worker().unsent == deque()
            assert len(open_descriptors()) == n_before

    run(claim())


def test_the_time_of_a_worker_that_died_is_not_its_successors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_process, "UNREAD_MAX_S", 0.5)

    async def claim() -> None:
        async with running() as owner:
            os.kill(owner.pid(), signal.SIGSTOP)
            fill(owner)
            owner.kill()
            await until(lambda: owner.died)
            await until(owner.lane.is_whole)
            await asyncio.sleep(0.6)
            assert owner.died == ["link-writer"]

    run(claim())


def test_a_worker_for_which_too_many_messages_wait_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_process, "UNSENT_MAX", 50)
    monkeypatch.setattr(worker_process, "UNREAD_MAX_S", 1000)

    async def claim() -> None:
        async with running() as owner:
            os.kill(owner.pid(), signal.SIGSTOP)
            fill(owner)
            for _ in range(48):
                owner.lane.send("link-writer", DetachLink(1))
            await asyncio.sleep(0.1)
            assert owner.died == []
            owner.lane.send("link-writer", DetachLink(1))
            await until(lambda: owner.died == ["link-writer"])
            await until(owner.lane.is_whole)

    run(claim())


def test_a_worker_that_takes_some_messages_has_its_time_anew() -> None:
    async def claim() -> None:
        async with running() as owner:
            os.kill(owner.pid(), signal.SIGSTOP)
            fill(owner)
            owner.lane.send("link-writer", DetachLink(1))
            deadline = owner.worker().unread
            assert deadline is not None
            os.kill(owner.pid(), signal.SIGCONT)
            await until(deadline.cancelled)
            await until(lambda: not owner.worker().unsent)
            assert owner.worker().unread is None
            assert owner.died == []

    run(claim())


def test_what_the_kernel_cannot_take_now_is_sent_a_moment_later() -> None:
    async def claim() -> None:
        async with running() as owner:
            with too_many_descriptors_in_flight():
                owner.lane.send("link-writer", DetachLink(1), 0)
                owner.lane.send("link-writer", DetachLink(2))
                await asyncio.sleep(0.3)
                assert len(owner.worker().unsent) == 2
            await until(lambda: not owner.worker().unsent)
            assert owner.died == []

    run(claim())


def test_a_worker_that_reads_no_messages_is_replaced() -> None:
    async def claim() -> None:
        async with running() as owner:
            with too_many_descriptors_in_flight():
                owner.kill()
                await until(lambda: owner.worker().boot_failures >= 2)
            await until(owner.lane.is_whole)
            assert owner.failures == []

    run(claim())


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (AddSocket(SOCKETS_MAX, has_offload=False), "Invalid argument"),
        (Boot(RING_BYTES, Wire.PLAIN, Mode.TUN, holds=False, coalesce=Offload.NONE, mss_mtu=0),
         "unexpected Boot"),
    ],
)  # fmt: skip
def test_a_worker_that_cannot_go_on_says_why_and_is_replaced(
    order: ToWorker, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def claim() -> None:
        async with running() as owner:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                owner.lane.send("link-reader", order, udp.fileno())
            await until(lambda: owner.died)
            await until(owner.lane.is_whole)
            assert owner.died == ["link-reader"]
            (failed,) = owner.messages
            assert isinstance(failed, WorkerFailed)
            assert reason in failed.reason

    run(claim())
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    assert "fastun: " not in captured.err


# -- the end ----------------------------------------------------------------------------------


def test_a_worker_that_cannot_be_killed_is_said_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def claim() -> None:
        device, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with device, far_end, Template() as template:
            owner = Owner(device, template)
            owner.lane.start(owner)
            await until(owner.lane.is_whole)
            os.kill(owner.pid(), signal.SIGSTOP)
            monkeypatch.setattr(worker_process, "KILL_GRACE_S", 0.2)
            kill, immortal = signal.pidfd_send_signal, owner.worker().pidfd
            monkeypatch.setattr(
                signal, "pidfd_send_signal", lambda fd, n: None if fd == immortal else kill(fd, n)
            )
            with pytest.raises(RuntimeFailure) as caught:
                await owner.lane.stop()
            assert str(caught.value) == "cannot kill the workers link-writer/0"
            kill(immortal, signal.SIGKILL)
            owner.worker().reap()

    run(claim())


def test_no_signal_but_sigkill_ends_a_worker() -> None:
    async def claim() -> None:
        async with running() as owner:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
                os.kill(owner.pid(), number)
            await asyncio.sleep(0.3)
            assert owner.died == []
            assert os.getpgid(owner.pid()) == owner.pid(), "a terminal does not reach it"

    run(claim())
