"""What the parts of the data path cost, each alone: processor time of one operation.

    python -m pytest bench/micro/test_data_path.py -k seal

A round is some thousand operations in C, so the call from Python does not count. `extra_info` has
the time of one operation, bytes a second, and the ratio to a calibration loop (calibration.py),
which `python -m bench.micro.compare` compares with the stored ones.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from bench.micro.calibration import measure, operations_a_round
from bench.micro.library import load

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(timer=time.thread_time)
@pytest.mark.parametrize("name", load().subjects)
def test_data_path(benchmark: BenchmarkFixture, name: str) -> None:
    """Measure one subject; every operation has to do what it should."""
    subject = load().subjects[name]
    subject.prepare()
    n = 1 if benchmark.disabled else operations_a_round(subject)
    measure(
        benchmark,
        lambda: subject.run(n),
        subject=name,
        n=n,
        n_bytes=subject.n_bytes,
        calibration=subject.calibration,
    )
