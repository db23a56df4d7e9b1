"""Two versions beside each other: where the true ratio lies, and what counts as a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.tunnel.against import Comparison, as_grid, compare, program_of
from bench.tunnel.results import CaseResult
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def case(**values: list[float]) -> CaseResult:
    named = {name.replace("_", "-"): each for name, each in values.items()}
    return CaseResult(name="case", title="case", kind="fastun", values=named)


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
