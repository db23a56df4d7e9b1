"""Medians over the rounds, their spread, and how the cases stand to the wire and to each other."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.tunnel.cases import BASELINE, PEER
from bench.tunnel.figures import HIGHER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.tunnel.figures import Figure
    from bench.tunnel.results import CaseResult


@dataclass(frozen=True, slots=True)
class Standing:
    """One figure of one case. The ratios are of medians: this case's by the other one's.

    A ratio is None where there is nothing to compare with, or it is 0.
    """

    case: CaseResult
    median: float
    least: float
    most: float
    to_baseline: float | None
    to_best_peer: float | None


def compare(figure: Figure, cases: Sequence[CaseResult]) -> list[Standing]:
    """Return the standing of every case that has the figure, in the order of `cases`."""
    medians = {
        case.name: statistics.median(values)
        for case in cases
        if (values := case.values.get(figure.name))
    }
    measured = [case for case in cases if case.name in medians]
    baseline = next((medians[case.name] for case in measured if case.kind == BASELINE), None)
    # A rate of 0 is a search that found none; a delay or cost of 0 is nothing to divide by either.
    peers = [medians[case.name] for case in measured if case.kind == PEER and medians[case.name]]
    best = max if figure.better == HIGHER else min
    best_peer = best(peers, default=None)
    return [
        Standing(
            case=case,
            median=medians[case.name],
            least=min(case.values[figure.name]),
            most=max(case.values[figure.name]),
            to_baseline=_ratio(medians[case.name], baseline),
            to_best_peer=_ratio(medians[case.name], best_peer),
        )
        for case in measured
    ]


def _ratio(value: float, other: float | None) -> float | None:
    return value / other if other else None
