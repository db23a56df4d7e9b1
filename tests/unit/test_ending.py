"""Ending signals: what is noted, what is ignored, and what ends a gateway that does not end."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fastun import ending, threads
from fastun.ending import SIGNALS, AskedToStop

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = """
import os, signal, sys, time
from fastun import ending
ending._has_terminal = lambda: True
for number in (*ending.SIGNALS, signal.SIGUSR1):  # whatever the shell has ignored
    signal.signal(number, signal.SIG_DFL)
def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
"""


def run(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + body],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.fixture(autouse=True)
def asked_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr(ending, "_asked_by", asked)
    monkeypatch.setattr(ending, "_has_terminal", lambda: True)
    return asked


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    numbers = (*SIGNALS, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (*numbers, signal.SIGPWR)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "ALRM", "PWR"])
def test_a_signal_is_noted_and_ends_nothing_by_itself(name: str) -> None:
    done = run(f"with ending.watched():\n    send(signal.SIG{name})\nprint(ending.reason())")
    assert (done.returncode, done.stdout) == (0, f"SIG{name}\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_wakes_who_waits(number: signal.Signals) -> None:
    with ending.watched() as asked:
        assert not ending.is_asked()
        ending.check()
        os.kill(os.getpid(), number)
        assert ending.is_asked()
        assert ending.reason() == number.name
        assert select.select([asked], [], [], 1)[0]
        with pytest.raises(AskedToStop):
            ending.check()


def test_one_that_came_before_anyone_waited_wakes_as_well() -> None:
    ending.note()
    os.kill(os.getpid(), signal.SIGTERM)
    with ending.watched() as asked:
        assert select.select([asked], [], [], 1)[0]


def test_only_the_first_signal_is_heard() -> None:
    with ending.watched():
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert ending.reason() == "SIGHUP"


def test_a_hang_up_of_no_terminal_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_has_terminal", lambda: False)
    with ending.watched() as asked:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
            assert select.select([asked], [], [], 1)[0]
            asked.recv(256)
            assert not ending.is_asked()
            assert ending.take_hang_up()
            assert not ending.take_hang_up()
        os.kill(os.getpid(), signal.SIGTERM)
        assert ending.reason() == "SIGTERM"


def test_a_process_without_a_terminal_knows_that_it_has_none() -> None:
    program = PROGRAM.replace("ending._has_terminal = lambda: True\n", "")
    code = program + "os.setsid()\nprint(ending._has_terminal())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "False\n"


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ending.watched():
        os.kill(os.getpid(), signal.SIGHUP)
        assert not ending.is_asked()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_the_exit_code_is_ours_to_the_last_moment() -> None:
    body = "with ending.watched(): pass\nsend(*ending.SIGNALS, *ending.SIGNALS)\nsys.exit(3)"
    assert run(body).returncode == 3
    with ending.watched():
        pass
    assert all(signal.getsignal(number) is signal.SIG_IGN for number in SIGNALS)


# -- the guard --------------------------------------------------------------------------------

STUCK = """
def resort():
    print('restored', flush=True)
with ending.watched(), ending.guarded(0.3, resort):
    {body}
"""


@pytest.mark.parametrize(
    "body",
    [
        "send(signal.SIGTERM, signal.SIGINT); time.sleep(30)",
        "ending.ask('a failure'); time.sleep(30)",
    ],
)
def test_what_does_not_end_is_ended_after_the_last_resort(body: str) -> None:
    done = run(STUCK.format(body=body))
    assert (done.returncode, done.stdout, done.stderr) == (1, "restored\n", "")


def test_a_signal_from_before_the_guard_counts() -> None:
    body = "ending.note(); send(signal.SIGTERM)" + STUCK.format(body="time.sleep(30)")
    assert run(body).returncode == 1


def test_a_last_resort_that_fails_ends_it_all_the_same() -> None:
    body = STUCK.format(body="send(signal.SIGTERM); time.sleep(30)").replace("print(", "xyz(")
    assert run(body).returncode == 1


def test_the_guard_does_nothing_before_the_end_begins() -> None:
    done = run(STUCK.format(body="time.sleep(0.8)") + "print('fine')")
    assert (done.returncode, done.stdout) == (0, "fine\n")


def test_what_ends_in_time_is_left_alone() -> None:
    done = run(STUCK.format(body="send(signal.SIGTERM)") + "time.sleep(0.8)\nprint('fine')")
    assert (done.returncode, done.stdout) == (0, "fine\n")


# -- what may block for long ------------------------------------------------------------------


def test_what_blocks_is_left_behind_when_the_end_begins() -> None:
    begun = time.monotonic()
    threading.Timer(0.2, ending.ask, ["SIGTERM"]).start()
    with pytest.raises(AskedToStop):
        ending.unless_asked(lambda: time.sleep(20))
    assert time.monotonic() - begun < 5


def test_what_does_not_block_is_as_if_it_were_called() -> None:
    assert ending.unless_asked(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        ending.unless_asked(lambda: 1 // 0)


def test_a_loop_does_not_wait_for_its_threads() -> None:
    async def work() -> int:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(threads.DaemonThreads())
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        asyncio.create_task(asyncio.to_thread(time.sleep, 20))  # noqa: RUF006 (as it is meant)
        return await asyncio.to_thread(threading.get_ident)

    begun = time.monotonic()
    assert asyncio.run(work()) != threading.get_ident()
    assert time.monotonic() - begun < 5


def test_a_loop_has_so_many_threads_and_no_more() -> None:
    executor, all_are_there = threads.DaemonThreads(), threading.Barrier(threads.N_THREADS)

    def work() -> int:
        all_are_there.wait(10)
        return threading.get_ident()

    futures = [executor.submit(work) for _ in range(3 * threads.N_THREADS)]
    assert len({future.result(10) for future in futures}) == threads.N_THREADS


def test_a_process_does_not_wait_for_its_threads() -> None:
    body = "from fastun.threads import DaemonThreads\nDaemonThreads().submit(time.sleep, 60)"
    assert run(body).returncode == 0


@pytest.mark.parametrize(("extra_s", "exit_code"), [(60, 0), (0.1, 1)])
def test_the_end_may_take_longer_where_it_is_extended(extra_s: float, exit_code: int) -> None:
    done = run(f"""
with ending.watched(), ending.guarded(1.0, lambda: None):
    ending.ask("a failure")
    with ending.extended({extra_s}):
        time.sleep(1.6 if {extra_s} > 1 else 15)
""")
    assert done.returncode == exit_code


def test_what_passes_while_the_process_is_stopped_is_not_counted() -> None:
    body = """
def resort():
    print('restored', flush=True)
with ending.watched(), ending.guarded(3.0, resort):
    ending.ask('a test')
    print('asked', flush=True)
    for _ in range(6):
        time.sleep(0.1)
print('ended by itself', flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + body], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(3.5)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "ended by itself\n"
    assert process.returncode == 0
