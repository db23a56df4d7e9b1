"""Whether a hint is true, and what it may do to a peer that answers no probes."""

from __future__ import annotations

import pytest

from fastun.link.datagram.hinted import (
    FLOOR,
    HOLD_MAX_S,
    HOLD_S,
    RECENT_S,
    HintedLimit,
    RecentCounters,
)


def test_a_counter_is_recent_for_some_seconds() -> None:
    recent = RecentCounters()
    for second in range(100):
        recent.note(1000 + 10 * second, float(second))
    sealed = 1000 + 10 * 99
    assert recent.has(sealed - 1, sealed)
    assert recent.has(sealed - 10 * int(RECENT_S), sealed)
    assert not recent.has(sealed - 10 * int(2 * RECENT_S) - 10, sealed)
    assert not recent.has(sealed, sealed), "it was not used yet"


def test_the_counters_of_a_new_session_are_recent() -> None:
    recent = RecentCounters()
    for second in range(20):
        recent.note(10**6, float(second))
    recent.note(300, 20.0)
    assert recent.has(256, 300)


@pytest.mark.parametrize(
    ("mtu", "size", "whole"),
    [(1400, 1400, 0), (1280, 1280, 0), (1279, 1280, 1279), (552, 1280, 552), (0, 1280, 0)],
)
def test_a_hint_is_followed_to_a_floor(mtu: int, size: int, whole: int) -> None:
    limit = HintedLimit()
    assert limit.on_hint(mtu, 0.0)
    assert (limit.size, limit.whole) == (size, whole)
    assert size >= FLOOR
    assert not limit.on_hint(mtu, 1.0), "there is nothing new in it"
    assert not limit.on_hint(1450, 1.0), "nor in one that is less"


def test_a_path_may_get_narrower_still_and_the_time_is_the_firsts() -> None:
    limit = HintedLimit()
    for mtu in (1400, 1300, 1200, 1100):
        assert limit.on_hint(mtu, 0.0 if mtu == 1400 else HOLD_S - 1)
    assert (limit.size, limit.whole) == (1280, 1100)
    assert not limit.expire(HOLD_S - 0.1)
    assert limit.expire(HOLD_S)
    assert (limit.size, limit.whole) == (0, 0)
    assert not limit.expire(HOLD_S + 1)


def test_what_proves_true_at_once_is_tried_less_often() -> None:
    limit, now_s, waits = HintedLimit(), 0.0, []
    for _ in range(5):
        limit.on_hint(1400, now_s)
        began_s = now_s
        while not limit.expire(now_s):
            now_s += 1
        waits.append(now_s - began_s)
        now_s += 1
    assert waits == [HOLD_S, 2 * HOLD_S, 4 * HOLD_S, HOLD_MAX_S, HOLD_MAX_S]
    now_s += 100
    limit.on_hint(1400, now_s)
    assert limit.expire(now_s + HOLD_S)
