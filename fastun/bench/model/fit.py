"""Telling apart what a frame, a packet and a byte cost, from what a few loads cost.

    cost of a load = frames x f + packets x p + bytes x b        f, p, b not negative

Each load is one such equation, and the errors are relative, so that a load of few bytes counts as
much as one of many. Three loads that differ have one solution; where that would be negative (the
figures of a busy machine) the nearest of those that are not is it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import msgspec

from fastun.bench.model.prediction import StageCost

# Below this a pivot is rounding, and the loads do not differ.
_TINY = 1e-12


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What a load was, and what a stage spent on it. ``weight``: how much its error counts."""

    frames: float
    packets: float
    bytes: float
    cpu_ns: float
    weight: float = 1.0


def fit(samples: Sequence[Sample]) -> StageCost:
    """Return the costs that come nearest to all samples; a sample that cost nothing is left out."""
    known = [sample for sample in samples if sample.cpu_ns > 0]
    rows = [_row(sample) for sample in known]
    wanted = [sample.weight for sample in known]
    if not rows:
        return StageCost()
    solutions = _solutions(rows, wanted)
    best = min(solutions, key=lambda solution: _error(rows, wanted, solution))
    return StageCost(frame_ns=best[0], packet_ns=best[1], byte_ns=best[2])


def _row(sample: Sample) -> list[float]:
    factor = sample.weight / sample.cpu_ns
    return [factor * count for count in (sample.frames, sample.packets, sample.bytes)]


def _solutions(rows: list[list[float]], wanted: list[float]) -> Iterator[list[float]]:
    """Yield the least squares of each choice of unknowns, where none is negative."""
    yield [0.0, 0.0, 0.0]
    for n_unknowns in (1, 2, 3):
        for chosen in combinations(range(3), n_unknowns):
            solved = _least_squares([[row[i] for i in chosen] for row in rows], wanted)
            if solved is not None and min(solved) >= 0:
                values = dict(zip(chosen, solved, strict=True))
                yield [values.get(i, 0.0) for i in range(3)]


def _least_squares(rows: list[list[float]], wanted: list[float]) -> list[float] | None:
    """Return the solution of the normal equations; None where there are many.

    Columns are scaled first: a load has some 1e5 times as many bytes as frames.
    """
    n = len(rows[0])
    scale = [sum(row[i] ** 2 for row in rows) ** 0.5 or 1.0 for i in range(n)]
    scaled = [[row[i] / scale[i] for i in range(n)] for row in rows]
    system = [
        [
            *(sum(row[i] * row[j] for row in scaled) for j in range(n)),
            sum(row[i] * value for row, value in zip(scaled, wanted, strict=True)),
        ]
        for i in range(n)
    ]
    solved = _eliminate(system)
    return None if solved is None else [value / scale[i] for i, value in enumerate(solved)]


def _eliminate(system: list[list[float]]) -> list[float] | None:
    """Solve by Gauss and Jordan; None where a pivot vanishes. Changes the system."""
    n = len(system)
    for i in range(n):
        pivot = max(range(i, n), key=lambda row: abs(system[row][i]))
        system[i], system[pivot] = system[pivot], system[i]
        if abs(system[i][i]) < _TINY:
            return None
        system[i] = [value / system[i][i] for value in system[i]]
        for row in range(n):
            if row != i:
                factor = system[row][i]
                system[row] = [a - factor * b for a, b in zip(system[row], system[i], strict=True)]
    return [row[-1] for row in system]


def _error(rows: list[list[float]], wanted: list[float], solution: list[float]) -> float:
    return sum(
        (sum(a * b for a, b in zip(row, solution, strict=True)) - value) ** 2
        for row, value in zip(rows, wanted, strict=True)
    )
