"""fastun.pace: looks at the same moments, few in the quiet."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from fastun import pace
from fastun.pace import QUIET_S, Pace


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
