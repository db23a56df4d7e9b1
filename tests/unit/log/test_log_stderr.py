"""A stderr that never blocks (fastun/log/stderr.py), in processes of their own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BEFORE = """
import os, sys, time
from fastun import log
log.configure("json", 0)
log.unblock()
def say(n, what="line"):
    for number in range(n):
        sys.stderr.write(f"{what} {number}\\n")
def report(**figures):
    print(figures, flush=True)
"""


@contextmanager
def running(program: str, stderr: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", BEFORE + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(file: IO[str] | None) -> str:
    assert file is not None
    return file.readline()


def lines_until_end(fd: int) -> list[str]:
    content = b""
    while piece := os.read(fd, 65536):
        content += piece
    return content.decode().splitlines()


def test_lines_are_written_in_their_order_and_the_last_ones_before_the_end() -> None:
    reader, writer = os.pipe()
    with running("say(300); sys.exit(3)", writer) as process:
        os.close(writer)
        lines = lines_until_end(reader)
        assert process.wait(10) == 3
    os.close(reader)
    assert lines == [f"line {number}" for number in range(300)]


@pytest.mark.parametrize("pause_s", [0.0, 0.5])  # 0: it ends before it is read
def test_nothing_waits_for_a_reader_and_what_is_dropped_is_counted_and_said(pause_s: float) -> None:
    reader, writer = os.pipe()
    program = (
        f"pause_s = {pause_s}"
        """
say(100_000)
report(dropped=log.lines_dropped()["stderr_blocked"])
sys.stdin.readline()
time.sleep(pause_s)
say(1, "after")
"""
    )
    with running(program, writer) as process:
        os.close(writer)
        # It says so before the first line is read: one that waited would never say it.
        dropped = eval(line_of(process.stdout))["dropped"]  # noqa: S307 (our own dict)
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(0.0 if pause_s else 0.3)
        lines = lines_until_end(reader)
        assert process.wait(10) == 0
    os.close(reader)
    written = [line for line in lines if line.startswith("line ")]
    assert written == [f"line {number}" for number in range(len(written))]
    assert len(written) + dropped == 100_000
    notices = [line for line in lines if "lines dropped" in line]
    assert len(notices) == 1
    assert f'"lines": {dropped + ("after 0" not in lines)}' in notices[0]
    if pause_s:
        assert lines[-1] == "after 0"


def test_an_unread_pipe_delays_the_end_by_half_a_second() -> None:
    reader, writer = os.pipe()
    with running("say(100_000); report(); sys.exit(3)", writer) as process:
        line_of(process.stdout)
        begun_s = time.monotonic()
        assert process.wait(10) == 3
        assert time.monotonic() - begun_s < 1.5
    os.close(reader)
    os.close(writer)


def test_a_slow_reader_gets_the_last_lines() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with running("say(1000); report()", writer) as process:  # 9 kB
        os.close(writer)
        line_of(process.stdout)
        content = b""
        for _ in range(2):
            time.sleep(0.35)  # all in all longer than a standstill may be
            content += os.read(reader, 4096)
        content += b"".join(iter(lambda: os.read(reader, 4096), b""))
        assert process.wait(10) == 0
    os.close(reader)
    assert content.decode().splitlines() == [f"line {number}" for number in range(1000)]


def test_the_pipe_that_others_share_stays_blocking() -> None:
    reader, writer = os.pipe()
    with running("say(1); report(blocking=os.get_blocking(2))", writer) as process:
        assert eval(line_of(process.stdout)) == {"blocking": True}  # noqa: S307
        assert os.get_blocking(writer)
        os.close(writer)
    os.close(reader)


def test_one_that_others_have_made_non_blocking_loses_nothing() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with running("say(3000)", writer) as process:  # 27 kB
        os.close(writer)
        time.sleep(0.5)
        lines = lines_until_end(reader)
        assert process.wait(10) == 0
    os.close(reader)
    assert lines == [f"line {number}" for number in range(3000)]


@pytest.mark.parametrize("target", ["/dev/full", "closed pipe"])
def test_lines_that_are_refused_are_counted_and_change_no_exit_code(target: str) -> None:
    if target == "/dev/full":
        writer = os.open(target, os.O_WRONLY)
    else:
        reader, writer = os.pipe()
        os.close(reader)
    program = """
for _ in range(5):
    say(20)
    time.sleep(0.05)
report(dropped=log.lines_dropped()["stderr_blocked"])
sys.exit(3)
"""
    with running(program, writer) as process:
        os.close(writer)
        assert eval(line_of(process.stdout)) == {"dropped": 100}  # noqa: S307
        assert process.wait(10) == 3


def test_without_a_stderr_there_is_no_log() -> None:
    program = "log.get('x').info('lost'); report(workers=log.stderr_of_workers())"
    command = f'exec "{sys.executable}" -c "$0" 2>&-'
    done = subprocess.run(
        ["sh", "-c", command, BEFORE + program],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=20,
    )
    assert done.stdout == f"{{'workers': {subprocess.DEVNULL}}}\n"


def test_tracebacks_and_long_lines_go_the_same_way() -> None:
    reader, writer = os.pipe()
    program = "sys.stderr.write('x' * 20_000 + '\\n'); raise ValueError('why')"
    with running(program, writer) as process:
        os.close(writer)
        lines = lines_until_end(reader)
        assert process.wait(10) == 1
    os.close(reader)
    assert lines[0] == "x" * 20_000
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "ValueError: why"


def test_a_worker_that_writes_to_an_unread_stderr_is_not_stopped() -> None:
    reader, writer = os.pipe()
    program = """
import subprocess
worker = "import sys\\nfor _ in range(10_000): sys.stderr.write('worker\\\\n')\\nraise ValueError"
done = subprocess.run([sys.executable, "-u", "-c", worker], stderr=log.stderr_of_workers())
report(code=done.returncode)
"""
    with running(program, writer) as process:
        assert eval(line_of(process.stdout)) == {"code": 1}  # noqa: S307
        os.close(writer)
        assert "worker" in lines_until_end(reader)
    os.close(reader)
