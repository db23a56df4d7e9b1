"""Two versions beside each other: where the true ratio lies, and what counts as a loss."""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.tunnel.against import Comparison, as_grid, compare, interval, program_of
from bench.tunnel.results import CaseResult
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def case(**values: list[float]) -> CaseResult:
    named = {name.replace("_", "-"): each for name, each in values.items()}
    return CaseResult(name="case", title="case", kind="fastun", values=named)


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


def test_a_ratio_is_of_one_round_and_above_1_where_this_version_is_better() -> None:
    this = case(goodput_1_out=[20.0, 2.0] * 3, ping_idle_p50=[0.2, 0.4] * 3)
    other = case(goodput_1_out=[10.0, 1.0] * 3, ping_idle_p50=[0.4, 0.8] * 3)

    assert [one.ratio for one in compare("wire", this, other)] == [2.0, 2.0]


def test_what_was_taken_once_is_not_compared() -> None:
    assert not compare("wire", case(start_up=[2.0]), case(start_up=[1.0]))


def test_a_loss_is_an_interval_that_ends_below_the_limit() -> None:
    assert Comparison("wire", "goodput", 0.9, 0.85, 0.96).is_loss
    assert not Comparison("wire", "goodput", 0.9, 0.85, 0.98).is_loss


def test_the_table_names_a_loss() -> None:
    rows = as_grid([Comparison("wire", "goodput", 0.9, 0.85, 0.96)], 9).rows

    assert rows == [["wire: goodput", "0.900", "0.850", "0.960", "LOSS"]]


def test_a_checkout_that_is_not_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="build it there first"):
        program_of(tmp_path)
