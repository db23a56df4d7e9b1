"""The clocks that the model trusts, and the processors that it is measured on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from fastun.bench.model import cpu_clock, processors

if TYPE_CHECKING:
    from pathlib import Path


def test_a_process_has_spent_what_it_says_itself() -> None:
    before = cpu_clock.of_process(os.getpid())
    until_s = time.process_time() + 0.05
    while time.process_time() < until_s:
        pass
    spent = cpu_clock.of_process(os.getpid()) - before
    assert 0.05e9 <= spent < 2e9


def test_a_process_that_has_ended_is_named() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(ProcessLookupError, match=f"process {ended.pid} has ended"):
        cpu_clock.of_process(ended.pid)


def test_softirqs_are_a_part_of_what_the_processors_spend() -> None:
    assert 0 <= cpu_clock.softirq_ns() < cpu_clock.machine_ns()
    n_processors = len(os.sched_getaffinity(0))
    assert cpu_clock.machine_ns() < time.clock_gettime_ns(time.CLOCK_BOOTTIME) * n_processors
    assert len(cpu_clock.softirq_threads()) in (0, n_processors)


def test_whether_softirqs_are_charged_is_the_same_however_often_it_is_tried() -> None:
    found = set()
    for _ in range(3):
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            found.add(cpu_clock.charges_processes(datagrams, "127.0.0.1"))
    assert len(found) == 1


def machine(tmp_path: Path, siblings: list[str]) -> Path:
    for number, text in enumerate(siblings):
        topology = tmp_path / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{text}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("siblings", "allowed", "chosen"),
    [
        (["0-1", "0-1", "2-3", "2-3"], {0, 1, 2, 3}, {0, 2}),
        (["0,2", "1,3", "0,2", "1,3"], {0, 1, 2, 3}, {0, 1}),
        (["0-1", "0-1", "2-3", "2-3"], {1, 3}, {1, 3}),
        (["0-1", "0-1"], {0, 1}, {0, 1}),
        (["0"], {0}, {0}),
        ([], {4, 5, 6}, {4, 5}),
    ],
)
def test_two_of_different_cores_are_chosen_where_there_are_two(
    siblings: list[str], allowed: set[int], chosen: set[int], tmp_path: Path
) -> None:
    assert processors.choose(allowed, machine(tmp_path, siblings)) == chosen


def test_all_processors_are_there_again_afterwards() -> None:
    before = os.sched_getaffinity(0)
    with processors.few() as chosen:
        assert os.sched_getaffinity(0) == chosen
        assert len(chosen) == min(2, len(before))
    assert os.sched_getaffinity(0) == before
