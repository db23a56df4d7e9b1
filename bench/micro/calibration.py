"""Rounds of a subject, each right after a round of its calibration loop.

What a machine's clock does to the subject it does to the loop beside it, so the ratio of the two
stays. What else runs there only ever adds time, so the figures are the least of many rounds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

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
    if benchmark.disabled:
        return cast("Result", benchmark(run))
    loop = CalibrationLoop(calibration)
    result: Result = benchmark.pedantic(  # type: ignore[no-untyped-call]
        run, setup=loop.run, rounds=n_rounds, warmup_rounds=N_WARMUP_ROUNDS
    )
    stats: Any = benchmark.stats
    least_ns = stats.stats.min * 1e9 / n
    loop_ns = min(loop.ns)
    benchmark.extra_info |= {
        "subject": subject,
        "n_operations": n,
        "ns_per_operation": round(least_ns, 3),
        "ns_per_operation_median": round(stats.stats.median * 1e9 / n, 3),
        "calibration": calibration,
        "calibration_ns": round(loop_ns, 3),
        "ratio": round(least_ns / loop_ns, 5),
    }
    if n_bytes:
        benchmark.extra_info["bytes_per_second"] = round(n_bytes * 1e9 / least_ns)
    return result
