"""Workers that are stopped, stuck or in a debugger's hands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lane import watch
from fastun.pace import PACE
from tests.support.hijacked import held, held_by_another
from tests.support.running_lane import Owner, running, until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.slow  # each starts real processes


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOOK_S", 0.05), ("ASK_S", 0.1), ("STUCK_S", 2.0), ("STOPPED_S", 0.3)):
        monkeypatch.setattr(watch, name, seconds)
    monkeypatch.setattr(PACE, "is_quiet", False)


def watching(claim: Callable[[Owner], Coroutine[None, None, None]]) -> None:
    async def watched() -> None:
        async with running() as owner:
            task = asyncio.create_task(owner.watch.run())
            await claim(owner)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(watched())


def test_a_stopped_worker_is_replaced() -> None:
    async def claim(owner: Owner) -> None:
        pid = owner.pid("tun-writer")
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: owner.worker("tun-writer").pid not in (pid, None))
        await until(owner.lane.is_whole)
        assert owner.watch.ended == {("tun-writer/0", "stopped"): 1}

    watching(claim)


def test_a_stopped_template_is_replaced() -> None:
    async def claim(owner: Owner) -> None:
        pid = owner.template.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: owner.template.pid not in (pid, None))
        assert not owner.watch.ended

    watching(claim)


def test_a_template_that_has_died_is_replaced_before_it_is_needed() -> None:
    async def claim(owner: Owner) -> None:
        pid = owner.template.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: owner.template.pid not in (pid, None))
        await until(owner.template.is_ready)
        owner.kill("tun-writer")
        await until(lambda: owner.lane.is_whole() and "tun-writer" in owner.died)
        assert owner.worker("tun-writer").boot_failures == 0

    watching(claim)


def test_one_that_goes_on_soon_is_left_alone() -> None:
    async def claim(owner: Owner) -> None:
        pids = {role: owner.pid(role) for role in owner.lane.workers}
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids.values():
                os.kill(pid, number)
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        assert {role: owner.pid(role) for role in owner.lane.workers} == pids

    watching(claim)


def test_one_that_says_nothing_is_asked_and_answers() -> None:
    async def claim(owner: Owner) -> None:
        await asyncio.sleep(3.0)  # more than a stuck one is given
        assert not owner.died
        assert not owner.watch.ended
        assert all(worker.silent_s < watch.STUCK_S for worker in owner.lane.workers.values())

    watching(claim)


def test_one_that_does_not_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "tracer_of", lambda _: 0)  # what holds it here is not seen

    async def claim(owner: Owner) -> None:
        with held(owner.pid("link-reader")):
            await until(lambda: owner.watch.ended)
        assert owner.watch.ended == {("link-reader/0", "stuck"): 1}
        await until(owner.lane.is_whole)

    watching(claim)


def test_one_that_a_debugger_holds_is_left_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    async def claim(owner: Owner) -> None:
        pid = owner.pid("link-reader")
        with held(pid):
            await asyncio.sleep(3.0)
            assert owner.pid("link-reader") == pid
        await until(lambda: owner.worker("link-reader").silent_s < watch.STUCK_S)
        assert owner.pid("link-reader") == pid
        said = capsys.readouterr()  # on either, as the log was set up before
        assert (said.out + said.err).count("a debugger holds a worker") == 1

    watching(claim)


def test_one_that_dies_in_a_debuggers_hands_is_replaced_without_waiting_for_that() -> None:
    async def claim(owner: Owner) -> None:
        pid = owner.pid("link-writer")
        with held_by_another(pid):
            os.kill(pid, signal.SIGKILL)
            await until(lambda: owner.worker("link-writer").pid not in (pid, None))
            await until(owner.lane.is_whole)
        owner.kill("link-writer")  # with this one the first is collected
        await until(lambda: not Path(f"/proc/{pid}").exists())

    watching(claim)


def test_a_lane_stops_while_a_debugger_holds_a_worker() -> None:
    async def claim() -> None:
        async with contextlib.AsyncExitStack() as stack:
            owner = await stack.enter_async_context(running())
            with held_by_another(owner.pid("tun-writer")):
                async with asyncio.timeout(20):
                    await stack.aclose()

    asyncio.run(claim())


def test_in_the_quiet_none_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim(owner: Owner) -> None:
        monkeypatch.setattr(PACE, "is_quiet", True)
        await asyncio.sleep(0.3)
        assert {worker.silent_s for worker in owner.lane.workers.values()} == {0.0}

    watching(claim)


def test_one_that_uses_too_much_memory_is_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 << 20 < watch.resident_bytes(os.getpid()) < 1 << 40
    assert watch.resident_bytes(2**30) == 0

    async def claim(owner: Owner) -> None:
        pids = {role: owner.pid(role) for role in owner.lane.workers}
        monkeypatch.setitem(watch.RESIDENT_BYTES_MAX, "tun-writer", 1 << 20)
        await until(lambda: owner.died)
        monkeypatch.setitem(watch.RESIDENT_BYTES_MAX, "tun-writer", 1 << 30)
        await until(owner.lane.is_whole)
        assert set(owner.died) == {"tun-writer"}
        assert {role for role, pid in pids.items() if owner.pid(role) != pid} == {"tun-writer"}
        said = capsys.readouterr()
        assert "uses more than 1 MiB of memory" in said.out + said.err

    watching(claim)
