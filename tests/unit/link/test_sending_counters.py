"""The counters of sessions as gateway and tun-reader share them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.native import SendingCounters

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOT = 1023


@pytest.fixture
def counters() -> Iterator[SendingCounters]:
    made = SendingCounters.create()
    yield made
    made.close()


def test_a_session_begins_at_0_or_behind_what_was_used(counters: SendingCounters) -> None:
    first, second = counters.begin(SLOT), counters.begin(SLOT, n_used=1)
    assert [first.draw() for _ in range(3)] == [0, 1, 2]
    assert (first.next(), second.next(), second.draw()) == (3, 1, 1)
    other = counters.begin(0)
    assert other.draw() == 0, "another peer's"
    assert (first.next(), second.next()) == (3, 2)


def test_whoever_draws_gets_another_one(counters: SendingCounters) -> None:
    ours = counters.begin(SLOT)
    attached = SendingCounters.attach(counters.fd)
    theirs = type(ours)(attached, SLOT, ours.source)
    assert [each.draw() for _ in range(3) for each in (ours, theirs)] == list(range(6))
    attached.close()


def test_a_session_that_has_ended_draws_nothing_that_a_later_one_has(
    counters: SendingCounters,
) -> None:
    sessions = [counters.begin(SLOT) for _ in range(20)]
    drawn: dict[int, list[int]] = {}
    for turn in range(200):
        n = turn * 7 % len(sessions)
        drawn.setdefault(n, []).append(sessions[n].draw())
    for numbers in drawn.values():
        assert numbers == sorted(set(numbers))
