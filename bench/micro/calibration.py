"""Rounds of a subject, each right after a round of its calibration loop.

What one machine's clock, and what else runs on it, do to the subject they do to the loop beside it:
the ratio of the two stays when both become slower. The figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, TypeVar

from bench.micro.library import Subject, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

Result = TypeVar("Result")

#: Long beside what the call from Python costs, short beside a time slice.
ROUND_S = 2e-3
N_ROUNDS = 101
N_WARMUP_ROUNDS = 3


def operations_a_round(subject: Subject) -> int:
    """Return how many operations of a prepared subject take about ROUND_S of processor time.

    Goes on beyond that time, so that memory touched for the first time counts for little.
    """
    n = 1
    while True:
        began = time.thread_time()
        subject.run(n)
        took = time.thread_time() - began
        if took > 2 * ROUND_S:
            return max(1, round(n * ROUND_S / took))
        n *= 2


class CalibrationLoop:
    """A loop that is run before each round; `ns` has what an operation took each time."""

    def __init__(self, name: str) -> None:
        """Find out how long a round of it is."""
        self._subject = load().calibrations[name]
        self._n = operations_a_round(self._subject)
        self.ns: list[float] = []

    def run(self) -> None:
        """Time one round."""
        began = time.thread_time_ns()
        self._subject.run(self._n)
        self.ns.append((time.thread_time_ns() - began) / self._n)


def measure(
    benchmark: BenchmarkFixture,
    run: Callable[[], Result],
    *,
    subject: str,
    n: int = 1,
    n_bytes: int = 0,
    calibration: str = "cpu",
    n_rounds: int = N_ROUNDS,
) -> Result:
    """Time rounds of `run`, which does `n` operations of `n_bytes` each; return what one returned.

    `extra_info` gets the ratio to the calibration loop and the throughput; nothing if benchmarks
    are disabled, since then nothing is timed. The benchmark's timer has to be one of processor
    time.
    """
    loop = CalibrationLoop(calibration)
    result = benchmark.pedantic(run, setup=loop.run, rounds=n_rounds, warmup_rounds=N_WARMUP_ROUNDS)
    if benchmark.stats is not None:
        ns = [seconds * 1e9 / n for seconds in benchmark.stats.stats.data]
        beside = loop.ns[N_WARMUP_ROUNDS:]
        ratios = [own / loops for own, loops in zip(ns, beside, strict=True)]
        median_ns = statistics.median(ns)
        benchmark.extra_info |= {
            "subject": subject,
            "n_operations": n,
            "ns_per_operation": round(median_ns, 3),
            "calibration": calibration,
            "calibration_ns": round(statistics.median(beside), 3),
            "ratio": round(statistics.median(ratios), 5),
        }
        if n_bytes:
            benchmark.extra_info["bytes_per_second"] = round(n_bytes * 1e9 / median_ns)
    return result
