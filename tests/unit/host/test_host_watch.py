"""A host process that is stopped, or does not answer, is said until it answers again."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import structlog

from fastun.host.process import messages
from fastun.host.process.client import HostClient
from fastun.host.process.watch import UNANSWERED_MAX, HostWatch
from tests.support.host_serving import host_process

if TYPE_CHECKING:
    from collections.abc import Callable


def looked(watch: HostWatch, until: Callable[[], bool]) -> None:
    for _ in range(1000):
        watch.look()
        if until():
            return
        time.sleep(0.01)
    raise AssertionError


def test_one_that_is_stopped_is_said_and_how_to_let_it_go_on() -> None:
    with host_process() as (end, pid, _), HostClient(end, pid) as host:
        watch = HostWatch(host)
        with structlog.testing.capture_logs() as events:
            for number, is_stopped in ((signal.SIGSTOP, True), (signal.SIGCONT, False)) * 2:
                os.kill(pid, number)
                looked(watch, lambda wanted=is_stopped: bool(host.fault) == wanted)
                if not is_stopped:
                    host.have(messages.KeepOut())
                assert not host.fault or host.fault.endswith(f"run 'kill -CONT {pid}'")
        said = [event["event"] for event in events]
        assert "nothing of this host can be changed" in said[0]
        assert said[1::2] == ["the host process answers again"] * 2
        assert len(said) == 4


def test_one_that_does_not_answer_is_said() -> None:
    with host_process() as (end, pid, _), HostClient(end, pid) as host:
        watch = HostWatch(host)
        looked(watch, lambda: not host.fault)
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)  # another one has seen that it is
        watch.look()
        for _ in range(UNANSWERED_MAX):
            watch.look()
        assert host.fault.startswith("the host process does not answer")
        os.kill(pid, signal.SIGCONT)
        looked(watch, lambda: not host.fault)
        host.have(messages.KeepOut())
