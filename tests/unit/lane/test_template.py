"""The template process, and the workers that it forks: real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun import ending
from fastun.ending import AskedToStop
from fastun.host.sockets.maker import OWN
from fastun.lane import channel, template
from fastun.lane.template import FAULTS, Template
from tests.support.running_lane import running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lane.channel import Channel

pytestmark = pytest.mark.slow  # each starts real processes


@contextlib.contextmanager
def forked(by: Template) -> Iterator[tuple[psutil.Process, Channel]]:
    """A worker that waits for its first message, and the gateway's end of its channel."""
    ours, theirs = channel.of(OWN.channel())
    with theirs:
        pid = by.fork("tun-reader/7", theirs)
    try:
        yield psutil.Process(pid), ours
    finally:
        ours.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def test_what_workers_lack_is_said_once_of_all_lanes() -> None:
    template = Template()
    lacks = ("Landlock (not supported)",)
    assert not template.is_news(())
    assert [template.is_news(lacks) for _ in range(16)] == [True, *[False] * 15]
    assert template.is_news((*lacks, "secret memory for keys (no room)"))


def test_a_worker_is_a_child_of_the_gateway_in_a_group_of_its_own() -> None:
    with Template() as forking, forked(forking) as (worker, _):
        while worker.cmdline()[:1] != ["fastun: tun-reader/7"]:
            time.sleep(0.001)
        assert worker.ppid() == os.getpid()
        while os.getpgid(worker.pid) != worker.pid:
            time.sleep(0.001)
        assert forking.pid not in (None, worker.pid)


def test_a_worker_has_only_its_own_descriptors() -> None:
    with Template() as forking, forked(forking) as (first, _), forked(forking) as (second, _):
        for worker in (first, second):
            while worker.num_fds() != 4:  # null twice, stderr and the channel
                time.sleep(0.001)
        assert forking.pid is not None
        assert psutil.Process(forking.pid).num_fds() == 4


def test_a_worker_whose_gateway_has_let_go_ends() -> None:
    with Template() as forking, forked(forking) as (worker, ours):
        ours.close()
        _, status = os.waitpid(worker.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 1


def test_nothing_is_left_of_a_template() -> None:
    with Template() as forking:
        pid = forking.pid
        assert pid is not None
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_template_that_is_killed_or_stopped_costs_no_worker_and_is_replaced(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "ANSWER_LIMIT_S", 0.2)
    with Template() as forking, forked(forking) as (worker, _):
        before = forking.pid
        assert before is not None
        os.kill(before, number)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs, pytest.raises(OSError, match="does not answer"):
            forking.fork("tun-reader/7", theirs)
        assert not psutil.pid_exists(before)
        with forked(forking) as (another, _):
            assert another.is_running()
        assert worker.status() != psutil.STATUS_ZOMBIE
        assert forking.pid != before


# The template module, but for its end in the moment after a fork.
DIES_BEFORE_IT_ANSWERS = """#!{python}
import os, signal, sys
from fastun import native
fork = native.fork_sibling
def fork_and_die():
    if fork():
        os.kill(os.getpid(), signal.SIGKILL)
    return 0
native.fork_sibling = fork_and_die
sys.argv[:] = sys.argv[sys.argv.index("fastun.lane.template_process"):]
from fastun.lane import template_process
template_process.main()
"""


def zombies() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [each for each in children if each.status() == psutil.STATUS_ZOMBIE]


def test_a_worker_whose_template_died_before_it_answered_is_collected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dying = tmp_path / "python"
    dying.write_text(DIES_BEFORE_IT_ANSWERS.format(python=sys.executable))
    dying.chmod(0o755)
    with Template() as forking, forked(forking) as (known, _):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(dying))
            forking.renew()
            ours, theirs = channel.of(OWN.channel())
            with theirs, pytest.raises(OSError, match="does not answer"):
                forking.fork("tun-reader/7", theirs)
            ours.close()
        known.kill()
        with subprocess.Popen(["true"]) as program:
            deadline = time.monotonic() + 10
            while len(zombies()) < 3:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with forked(forking):  # the others are for those to collect who started them
                assert {each.pid for each in zombies()} == {known.pid, program.pid}


def test_a_template_that_is_not_ready_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    late = tmp_path / "python"
    late.write_text("#!/bin/sh\nexec sleep 60\n")
    late.chmod(0o755)
    asked: list[str] = []
    monkeypatch.setattr(ending, "_asked_by", asked)
    monkeypatch.setattr(sys, "executable", str(late))
    ours, theirs = channel.of(OWN.channel())
    with Template() as forking, theirs:
        threading.Timer(0.2, asked.append, ["SIGTERM"]).start()
        begun_s = time.monotonic()
        with pytest.raises(AskedToStop):
            forking.fork("tun-reader/7", theirs)
        assert time.monotonic() - begun_s < template.READY_LIMIT_S - 1
    ours.close()


def test_a_template_ends_with_its_gateway() -> None:
    reading, writing = os.pipe()
    gateway = os.fork()
    if gateway == 0:
        forking = Template()
        forking.__enter__()
        os.write(writing, str(forking.pid).encode())
        os._exit(0)
    os.waitpid(gateway, 0)
    pid = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_while_a_fresh_template_imports_no_event_waits() -> None:
    async def claim() -> None:
        async with running() as owner:
            os.kill(owner.pid(), signal.SIGSEGV)
            n_turns = 0
            while not owner.died or not owner.lane.is_whole():
                n_turns += not owner.template.is_ready()
                await asyncio.sleep(0)
            assert n_turns > 10

    asyncio.run(asyncio.wait_for(claim(), 50))


def test_a_fresh_template_that_is_stopped_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "READY_LIMIT_S", 0.3)
    monkeypatch.setattr(template, "ANSWER_LIMIT_S", 0.1)
    with Template() as forking:
        assert forking.pid is not None
        os.kill(forking.pid, signal.SIGSTOP)
        assert not forking.is_ready()
        deadline = time.monotonic() + 5
        while not forking.is_ready():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs, pytest.raises(OSError, match="does not answer"):
            forking.fork("tun-reader/7", theirs)


@pytest.mark.parametrize("number", sorted({*FAULTS, signal.SIGKILL, signal.SIGTRAP}))
def test_after_a_fault_no_worker_has_the_addresses_of_the_one_that_crashed(
    number: signal.Signals,
) -> None:
    async def claim() -> None:
        async with running() as owner:
            before = owner.template.pid
            os.kill(owner.pid(), number)
            await until(lambda: owner.died)
            await until(owner.lane.is_whole)
            assert (owner.template.pid != before) == (number in FAULTS)

    asyncio.run(asyncio.wait_for(claim(), 50))
