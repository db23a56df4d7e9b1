"""When what others remove is made again, and what is said of it."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from fastun.host.condition import Condition
from fastun.host.monitor import LOOK_S, REPAIRS_MAX, WINDOW_S, HostMonitor, RepairLimit, summary
from fastun.host.netlink.notices import Concern
from fastun.host.wanted import Change

if TYPE_CHECKING:
    from collections.abc import Callable


def repairs(limit: RepairLimit, *times: float) -> list[float]:
    """Return when there were repairs, if something is removed at each of these times."""
    made = []
    for now in times:
        if limit.allows(now, is_disturbed=True):
            limit.note(now)
            made.append(now)
    return made


def test_three_repairs_a_minute_and_the_next_after_a_quiet_one() -> None:
    limit = RepairLimit()
    assert repairs(limit, 0, 1, 2, 3, 30) == [0, 1, 2]
    assert limit.is_exceeded
    assert not limit.allows(30 + WINDOW_S - 1, is_disturbed=False)
    assert limit.allows(30 + WINDOW_S, is_disturbed=False)
    assert not limit.is_exceeded


def test_every_half_minute_is_repaired_for_ever() -> None:
    times = [30.0 * n for n in range(100)]
    assert repairs(RepairLimit(), *times) == times


def test_what_is_not_ours_neither_costs_nor_disturbs() -> None:
    limit = RepairLimit()
    assert repairs(limit, 0, 1, 2) == [0, 1, 2]
    assert limit.allows(3, is_disturbed=False)
    assert not limit.is_exceeded


@given(st.lists(st.floats(0, 50), max_size=60))
def test_no_minute_has_more_than_three(pauses: list[float]) -> None:
    times, now = [], 0.0
    for pause in pauses:
        now += pause
        times.append(now)
    made = repairs(RepairLimit(), *times)
    for first, fourth in zip(made, made[REPAIRS_MAX:], strict=False):
        assert fourth - first >= WINDOW_S


def test_the_warning_names_what_is_one_and_counts_what_is_more() -> None:
    made = [Change("route", "10.7.0.0/16"), Change("route", "10.8.0.0/16")]
    made += [Change("routing rules", "IPv4"), Change("routing rules", "IPv6")]
    assert summary(made) == "2 routes and the routing rules"
    made += [Change("address", "10.9.0.2/24"), Change("address", "10.9.0.3/24")]
    assert summary(made) == "2 routes, the routing rules and 2 addresses"
    assert summary(made[:1]) == "route 10.7.0.0/16"
    assert summary([Change("nft table", "fastun_wg0")]) == "nft table fastun_wg0"


def test_a_device_that_is_down_is_the_first_fault_to_see_to() -> None:
    condition = Condition("wg0", missing=("route 10.7.0.0/16", "route 10.8.0.0/16"))
    assert condition.fault() == "route 10.7.0.0/16 and 1 more of wg0 cannot be made again"
    condition.is_down = True
    assert condition.fault() == "wg0 is down; run 'ip link set wg0 up'"


class Waiting(HostMonitor):
    """One that lacks something that others have taken, at each look, on a clock of its own."""

    def __init__(self) -> None:
        device: Any = SimpleNamespace(name="wg0", condition=Condition("wg0"), forwarding=None)
        super().__init__(device)
        self.now_s, self.n_repairs = 1000.0, 0

    def time(self) -> float:
        return self.now_s

    def step(self) -> None:
        with (
            mock.patch.object(asyncio, "get_running_loop", return_value=self),
            mock.patch.object(asyncio, "to_thread", at_once),
            mock.patch.object(time, "monotonic", self.time),
        ):
            asyncio.run(self._step(self.now_s))

    def _look(self) -> Concern:
        return Concern.OTHERS

    async def _repair(self, now: float) -> None:
        del now
        self.n_repairs += 1


async def at_once(function: Callable[[], object]) -> object:
    return function()


@given(st.lists(st.floats(-0.03, 0.2), max_size=40))
def test_what_could_not_be_made_is_tried_at_each_look_that_comes_a_little_early_or_late(
    offsets: list[float],
) -> None:
    monitor = Waiting()
    monitor.step()
    for n, offset_s in enumerate(offsets, start=1):
        monitor.now_s = 1000.0 + n * LOOK_S + offset_s
        monitor.step()
        assert monitor.n_repairs == n + 1
