"""fastun.pace: looks at the same moments, few in the quiet."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun import pace
from fastun.pace import QUIET_S, EachTick, Pace


@pytest.mark.parametrize("interval_s", [0.25, 0.5, 2.0])
@pytest.mark.parametrize("now_s", [1000.0, 1000.13, 1001.9999, 1003.999999])
@pytest.mark.parametrize("is_quiet", [False, True])
def test_looks_are_at_multiples_of_their_interval(
    monkeypatch: pytest.MonkeyPatch, interval_s: float, now_s: float, is_quiet: bool
) -> None:
    loop = SimpleNamespace(time=lambda: now_s)
    monkeypatch.setattr(pace.asyncio, "get_running_loop", lambda: loop)
    mine = Pace()
    mine.is_quiet = is_quiet
    every_s = QUIET_S if is_quiet else interval_s
    left_s = mine.left_s(interval_s)
    assert 0 < left_s <= every_s * 1.01
    assert (now_s + left_s) % every_s == pytest.approx(0, abs=1e-6) or (
        now_s + left_s
    ) % every_s == pytest.approx(every_s)


@given(
    begin_s=st.floats(0.0, 8.0),
    steps=st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(-0.03, 0.2)), min_size=1, max_size=40),
)
def test_a_look_is_never_late_by_more_than_its_tick(
    begin_s: float, steps: list[tuple[float, float]]
) -> None:
    """Who comes at each tick, a little early or late, and in between looks once a tick."""
    interval_s = 4.0
    now_s = 1000.0 + begin_s
    loop = SimpleNamespace(time=lambda: now_s)
    with mock.patch.object(pace.asyncio, "get_running_loop", return_value=loop):
        looks = EachTick(interval_s)
        assert looks.is_due()
        for other_s, off_s in steps:
            tick_s = now_s + pace.PACE.left_s(interval_s)
            if now_s + other_s < tick_s - 0.1:  # something else wakes it before
                now_s += other_s
                assert not looks.is_due()
            now_s = tick_s + off_s
            assert looks.is_due()


def test_the_end_of_the_quiet_wakes_all() -> None:
    async def scene() -> None:
        mine = Pace()
        mine.is_quiet = True
        looks = [asyncio.create_task(mine.next_look(3600.0, 3600.0)) for _ in range(3)]
        await asyncio.sleep(0)
        mine.end_quiet()
        async with asyncio.timeout(60):
            await asyncio.gather(*looks)

    asyncio.run(scene())


def test_who_gives_up_a_look_is_woken_no_more() -> None:
    async def scene() -> None:
        mine = Pace()
        mine.is_quiet = True
        look = asyncio.create_task(mine.next_look(3600.0))
        await asyncio.sleep(0)
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
        mine.end_quiet()
        assert not mine.is_quiet

    asyncio.run(scene())


def test_a_timer_that_is_due_sooner_is_not_late() -> None:
    async def scene() -> None:
        mine = Pace()
        mine.is_quiet = True
        async with asyncio.timeout(60):
            await mine.next_look(0.001, 0.0)
        assert mine.is_quiet

    asyncio.run(scene())


def test_without_an_interval_others_have_their_turn() -> None:
    async def scene() -> None:
        await Pace().next_look(0)

    asyncio.run(scene())
