"""A reload: in which order parts change, and that a failure leaves everything as it was."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.config.settings import Options, Settings, load
from fastun.errors import ConfigError, FastunError, RuntimeFailure
from fastun.gateway.reload import Part, Reload
from fastun.gateway.settings_change import LIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OLD = load("serve", None, Options())
NEW = dataclasses.replace(OLD, mtu=1380, mss_clamp=True)


class Owner:
    """Has one field; refuses a value, or to go back."""

    def __init__(self, field: str, refused: object = None, *, is_stuck: bool = False) -> None:
        self.field = field
        self.value = getattr(OLD, field)
        self.refused = refused
        self.is_stuck = is_stuck
        self.seen: list[object] = []

    async def change(self, before: Settings, now: Settings) -> Iterable[str]:
        value = getattr(now, self.field)
        self.seen.append(value)
        if value == self.refused:
            raise RuntimeFailure(f"{self.field} {value}: refused")
        if self.is_stuck and value == getattr(OLD, self.field) and before != OLD:
            raise OSError("stuck")
        self.value = value
        return [f"{self.field}: half"] if value == "half" else []

    def part(self, check: Callable[[Settings], None] = lambda _: None) -> Part:
        return Part(frozenset([self.field]), self.change, check)


def reload(read: Settings | FastunError, *parts: Part) -> Reload:
    def reread() -> Settings:
        if isinstance(read, FastunError):
            raise read
        return read

    return reloading_by(reread, *parts)


def reloading_by(read: Callable[[], Settings], *parts: Part) -> Reload:
    """A reload of a gateway that runs on what it has reached last."""
    running = [OLD]

    async def note(_: Settings, now: Settings) -> Iterable[str]:
        running[0] = now
        return ()

    return Reload(lambda: running[0], lambda _: read(), (Part(frozenset(LIVE), note), *parts))


def test_only_parts_that_are_concerned_change_each_once() -> None:
    mtu, clamp, metrics = Owner("mtu"), Owner("mss_clamp"), Owner("metrics")
    reloaded = asyncio.run(reload(NEW, mtu.part(), metrics.part(), clamp.part())())
    assert reloaded.changes == ("interface.mtu: 1420 -> 1380", "interface.mss_clamp: False -> True")
    assert (mtu.seen, clamp.seen, metrics.seen) == ([1380], [True], [])


def test_the_next_reload_compares_with_what_runs() -> None:
    async def claim() -> None:
        again = reload(NEW, Owner("mtu").part())
        assert (await again()).changes
        assert not (await again()).changes

    asyncio.run(claim())


def test_a_fault_in_the_file_reaches_no_part() -> None:
    mtu = Owner("mtu")
    with pytest.raises(ConfigError, match="a fault"):
        asyncio.run(reload(ConfigError("a fault"), mtu.part())())
    assert mtu.seen == []


def test_all_are_asked_before_one_changes() -> None:
    def refuse(_: Settings) -> None:
        raise ConfigError("two peers have it")

    mtu, clamp = Owner("mtu"), Owner("mss_clamp")
    with pytest.raises(ConfigError, match="two peers have it"):
        asyncio.run(reload(NEW, mtu.part(), clamp.part(refuse))())
    assert (mtu.seen, clamp.seen) == ([], [])


def test_where_one_fails_those_before_it_go_back() -> None:
    async def claim() -> None:
        mtu, clamp = Owner("mtu"), Owner("mss_clamp", refused=1)
        attempt = reload(NEW, mtu.part(), clamp.part())
        for _ in range(2):
            with pytest.raises(RuntimeFailure) as failure:
                await attempt()
            assert str(failure.value) == "mss_clamp True: refused; nothing was changed"
            assert (mtu.value, clamp.value) == (OLD.mtu, OLD.mss_clamp)

    asyncio.run(claim())


def test_what_cannot_go_back_is_named() -> None:
    mtu, clamp = Owner("mtu", is_stuck=True), Owner("mss_clamp", refused=1)
    with pytest.raises(RuntimeFailure) as failure:
        asyncio.run(reload(NEW, mtu.part(), clamp.part())())
    assert str(failure.value) == "mss_clamp True: refused; could not go back to mtu: stuck"


@given(st.lists(st.sampled_from([1300, 1380, 1400, "refused"]), max_size=8))
def test_a_row_of_reloads_ends_as_the_last_that_was_not_refused(values: list[object]) -> None:
    """Against a model: one value, which a reload sets or leaves."""

    async def claim() -> None:
        first, second = Owner("mtu"), Owner("mss_clamp", refused="refused")
        read = [OLD]
        reloading = reloading_by(lambda: read[0], first.part(), second.part())
        model: tuple[object, object] = (OLD.mtu, OLD.mss_clamp)
        for n, value in enumerate(values):
            level = value if value == "refused" else n
            read[0] = dataclasses.replace(OLD, mtu=1000 + n, mss_clamp=level)  # type: ignore[arg-type]
            if value == "refused":
                with pytest.raises(RuntimeFailure):
                    await reloading()
            else:
                await reloading()
                model = (1000 + n, n)
            assert (first.value, second.value) == model

    asyncio.run(claim())


def test_two_at_once_take_turns() -> None:
    async def claim() -> None:
        running: list[str] = []

        async def change(_: Settings, __: Settings) -> Iterable[str]:
            running.append("begun")
            await asyncio.sleep(0.01)
            assert running.pop() == "begun"
            assert running == []
            return ()

        values = iter([1300, 1310])
        reloading = reloading_by(
            lambda: dataclasses.replace(OLD, mtu=next(values)), Part(frozenset(["mtu"]), change)
        )
        done = await asyncio.gather(reloading(), reloading())
        assert [len(each.changes) for each in done] == [1, 1]

    asyncio.run(claim())
