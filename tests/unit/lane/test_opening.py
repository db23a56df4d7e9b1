"""When one more lane is worth its while: by what workers use, and what cores have left."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.lane import opening
from fastun.lane.opening import BUSY_SHARE, IDLE_CORES, LOOK_S, Opening, idle_seconds

if TYPE_CHECKING:
    from pathlib import Path

N_LANES = 3


class Machine:
    """A clock, idle cores, and lanes of which each has two workers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = self.idle_s = 100.0
        self.used_s = [[0.0, 0.0] for _ in range(N_LANES)]
        monkeypatch.setattr(opening, "idle_seconds", lambda: self.idle_s)
        monkeypatch.setattr(opening.time, "monotonic", lambda: self.now_s)

    def opening(self, *, at_once: bool = False) -> Opening:
        lanes = [
            SimpleNamespace(
                workers={i: SimpleNamespace(cpu_seconds=self._reader(n, i)) for i in range(2)}
            )
            for n in range(N_LANES)
        ]
        return Opening(cast("Any", lanes), at_once=at_once)

    def _reader(self, lane: int, worker: int) -> Any:
        return lambda: self.used_s[lane][worker]

    def passes(self, seconds: float, *, idle_cores: float, shares: dict[int, float]) -> None:
        self.now_s += seconds
        self.idle_s += seconds * idle_cores
        for lane, share in shares.items():
            self.used_s[lane][1] += seconds * share


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_it_takes_a_busy_worker_and_an_idle_core(machine: Machine) -> None:
    for share, idle_cores in ((0.9, 0.5), (0.3, 3.0), (0.0, 4.0), (1.0, 0.0)):
        looked = machine.opening()
        machine.passes(LOOK_S, idle_cores=idle_cores, shares={0: share})
        assert not looked.is_worth([0])
    looked = machine.opening()
    machine.passes(LOOK_S, idle_cores=IDLE_CORES, shares={0: BUSY_SHARE + 0.01})
    assert looked.is_worth([0])


def test_only_what_the_lanes_in_use_do_counts(machine: Machine) -> None:
    looked = machine.opening()
    machine.passes(LOOK_S, idle_cores=2.0, shares={0: 0.1, 1: 0.9})
    assert not looked.is_worth([0, 2])
    assert looked.is_worth([0, 1])
    assert not looked.is_worth([])


def test_a_look_lasts_for_its_time_and_what_was_before_an_opening_counts_no_more(
    machine: Machine,
) -> None:
    looked = machine.opening()
    machine.passes(LOOK_S / 2, idle_cores=2.0, shares={0: 1.0})
    assert not looked.is_worth([0]), "it is too early to say"
    machine.passes(LOOK_S / 2, idle_cores=2.0, shares={0: 1.0})
    assert looked.is_worth([0])
    looked.note_opened()
    machine.passes(LOOK_S / 2, idle_cores=2.0, shares={0: 1.0})
    assert not looked.is_worth([0])
    machine.passes(LOOK_S / 2, idle_cores=2.0, shares={0: 1.0})
    assert looked.is_worth([0])


def test_at_once_is_always(machine: Machine) -> None:
    assert machine.opening(at_once=True).is_worth([0])


def test_only_cores_that_this_process_may_use_are_idle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stat = tmp_path / "stat"
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    stat.write_text(
        "cpu 9 9 9 9 9\ncpu0 1 1 1 10 2 1\ncpu1 1 1 1 20 3 1\ncpu11 1 1 1 40 4 1\nintr 5\n"
    )
    monkeypatch.setattr(opening, "_STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 11})
    assert idle_seconds() == pytest.approx(56 * tick_s)
    monkeypatch.setattr(opening, "_STAT", tmp_path / "none")
    assert idle_seconds() == 0
