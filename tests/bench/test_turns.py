"""Cases in turns: the order, what each round begins with, and where the true ratio lies."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.tunnel.addresses import OUTER
from bench.tunnel.cases import BASELINE, Case
from bench.tunnel.measures import Measure, Subject
from bench.tunnel.pair import Pair
from bench.tunnel.results import Settings
from bench.tunnel.turns import interval, take_turns
from fastun.errors import RuntimeFailure

SETTINGS = Settings(is_quick=True, n_rounds=3, seconds=1, n_trials=1, socket_buffer_bytes=0)


def nothing(_pair: Pair) -> None:
    """A case without programs."""


def silent(_text: str) -> None:
    """Say nothing."""


CASES = [Case(name, name, BASELINE, nothing, addresses=OUTER) for name in ("this", "other")]


@pytest.mark.usefixtures("lab")
def test_each_round_starts_all_cases_anew_in_the_other_order() -> None:
    measured: list[Pair] = []

    def count(subject: Subject) -> dict[str, float]:
        measured.append(subject.pair)
        return {"count": float(len(measured))}

    taken = take_turns(CASES, [Measure("count", count)], SETTINGS, silent)

    assert taken["this"].values == {"count": [1.0, 4.0, 5.0]}
    assert taken["other"].values == {"count": [2.0, 3.0, 6.0]}
    assert len({id(pair) for pair in measured}) == len(measured)


@pytest.mark.usefixtures("lab")
def test_without_one_case_nothing_is_compared() -> None:
    def fails_once(subject: Subject) -> dict[str, float]:
        if subject.pair.name == "other":
            raise RuntimeFailure("no answer")
        return {"count": 1.0}

    with pytest.raises(RuntimeFailure, match="other: round 1/3, count: no answer"):
        take_turns(CASES, [Measure("count", fails_once)], SETTINGS, silent)


@pytest.mark.parametrize(
    ("n", "left_out"), [(6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (15, 3), (20, 5)]
)
def test_as_many_ratios_are_left_out_as_the_tables_of_the_sign_test_say(
    n: int, left_out: int
) -> None:
    assert interval(list(range(n))) == (left_out, n - 1 - left_out)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30))
def test_the_median_lies_within_the_interval(ratios: list[float]) -> None:
    low, high = interval(ratios)

    assert low <= statistics.median(ratios) <= high


def test_the_interval_misses_the_true_median_one_time_in_twenty_at_most() -> None:
    draw = random.Random(1)
    n_missed = 0
    for _ in range(4000):
        low, high = interval([draw.lognormvariate(0, 0.3) for _ in range(9)])
        n_missed += not low <= 1 <= high

    assert 0 < n_missed < 4000 * 0.05
