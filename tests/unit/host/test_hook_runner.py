"""Hooks in their process: what they get, how they end, and what is left of them (hooks/process)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from fastun.host.hooks.process import LINE_BYTES_MAX, LINES_MAX, Lines
from fastun.host.hooks.runner import HookRunner
from fastun.lab.host import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def runner() -> Iterator[HookRunner]:
    runner = HookRunner()
    yield runner
    runner.close()


def run(runner: HookRunner, *command: str, limit_s: float = 20.0, **more: str) -> str:
    job = runner.begin(command, ENVIRONMENT | more, limit_s, {"hook": "up"})
    return job.done.result(30)


def shell(runner: HookRunner, text: str, limit_s: float = 20.0, **more: str) -> str:
    return run(runner, "/bin/sh", "-c", text, limit_s=limit_s, **more)


def said(events: list[Any]) -> list[str]:
    return [event["text"] for event in events if event["event"] == "output"]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_hook_has_its_facts_and_nothing_of_the_gateway(
    runner: HookRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTUN_SECRET", "x")
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    readable, written = os.pipe()
    os.set_inheritable(readable, True)
    program = (
        "import os, signal, sys;"
        "print(sorted(k for k in os.environ if k != 'LC_CTYPE'));"
        "print(os.environ['FASTUN_PEER']);"
        "print(os.getcwd(), os.getpid() == os.getpgid(0), os.getpid() == os.getsid(0));"
        "print(sorted(map(int, os.listdir('/proc/self/fd')))[:4], os.readlink('/proc/self/fd/0'));"
        "print(signal.getsignal(2) is signal.default_int_handler, signal.pthread_sigmask(0, ()));"
        "print(sys.argv[1:])"
    )
    try:
        with structlog.testing.capture_logs() as events:
            arguments = ("$(reboot)", "a b")
            error = run(
                runner, sys.executable, "-I", "-c", program, *arguments, FASTUN_PEER="a;$(x) 'b'"
            )
    finally:
        signal.signal(signal.SIGINT, old)
        os.close(readable)
        os.close(written)
    assert error == ""
    assert said(events) == [
        "['FASTUN_PEER', 'PATH']",
        "a;$(x) 'b'",
        "/ True True",
        "[0, 1, 2, 3] /dev/null",  # 3 lists the directory
        "True set()",
        "['$(reboot)', 'a b']",
    ]


def test_files_may_be_as_many_as_before_the_gateway_raised_its_limit(
    runner: HookRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr("fastun.descriptors._soft_before", [soft - 7])
    with structlog.testing.capture_logs() as events:
        assert shell(runner, "ulimit -n") == ""
    assert said(events) == [str(soft - 7)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("exit 0", ""),
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "ended by signal SIGKILL"),
        ("cat", ""),
    ],
)
def test_how_it_has_ended_is_said(runner: HookRunner, text: str, error: str) -> None:
    assert shell(runner, text) == error


def test_a_program_that_cannot_be_started_is_said(runner: HookRunner) -> None:
    assert run(runner, "/nowhere") == "cannot be started: No such file or directory"
    assert shell(runner, "exit 0") == ""


def test_one_that_hangs_is_killed_with_its_group(runner: HookRunner, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    text = f"trap '' TERM; sleep 600 & echo $$ $! > {pids}; wait"
    assert shell(runner, text, limit_s=0.5) == "not finished within 0.5 s, killed"
    for pid in map(int, pids.read_text().split()):
        wait_until(lambda pid=pid: not is_alive(pid), "its end")  # type: ignore[misc]


def test_one_is_killed_on_request_and_others_go_on(runner: HookRunner) -> None:
    other = runner.begin(("/bin/sleep", "1"), ENVIRONMENT, 20, {})
    job = runner.begin(("/bin/sleep", "600"), ENVIRONMENT, 20, {})
    time.sleep(0.3)
    runner.cancel(job)
    assert job.done.result(20) == "stopped, because fastun is stopping"
    assert other.done.result(20) == ""


def test_what_it_leaves_running_lives_until_the_gateway_ends(
    runner: HookRunner, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    daemon = f"setsid sh -c 'echo $$ >> {pids}; exec sleep 600'"
    text = f"sleep 600 & echo $! > {pids}; {daemon} & sleep 0.2"
    assert shell(runner, text) == ""
    left = [int(pid) for pid in pids.read_text().split()]
    assert len(left) == 2
    assert all(map(is_alive, left))
    runner.close()
    assert not any(map(is_alive, left))


def test_a_gateway_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = (
        "import sys, time; from fastun.host.hooks.runner import HookRunner; runner = HookRunner();"
        f"runner.begin(('/bin/sh', '-c', 'echo $$ > {pids}; sleep 600'), {{}}, 600, {{}});"
        "print(runner.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as gateway:
        assert gateway.stdout is not None
        process = int(gateway.stdout.readline())
        wait_until(lambda: pids.exists() and bool(pids.read_text()), "the hook", timeout_s=20)
        gateway.kill()
    for pid in (process, int(pids.read_text())):
        wait_until(lambda pid=pid: not is_alive(pid), "its end")  # type: ignore[misc]


def test_the_process_is_replaced_when_it_was_killed(runner: HookRunner) -> None:
    job = runner.begin(("/bin/sleep", "600"), ENVIRONMENT, 600, {})
    assert runner.pid is not None
    os.kill(runner.pid, signal.SIGKILL)
    assert "has ended" in job.done.result(10)
    assert shell(runner, "exit 4") == "exit status 4"


def test_much_output_is_cut_and_does_not_hold_the_hook_up(runner: HookRunner) -> None:
    with structlog.testing.capture_logs() as events:
        assert shell(runner, "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); done") == ""
        assert shell(runner, "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end") == ""
    lines = said(events)
    assert lines[: LINES_MAX + 1] == [*map(str, range(LINES_MAX)), "(250 more lines)"]
    assert lines[LINES_MAX + 1 :] == ["x" * LINE_BYTES_MAX, "end"]


@pytest.mark.parametrize("size", [1, 3, 400, 401, 5000])
def test_lines_are_the_same_however_they_are_read(size: int) -> None:
    content = b"one\n\n" + b"y" * 1000 + b"\ntwo\nthree"
    lines, found = Lines(), []
    for start in range(0, len(content), size):
        found += lines.add(content[start : start + size])
    assert [*found, *lines.end()] == ["one", "y" * LINE_BYTES_MAX, "two", "three"]
