"""Round-trip times one by one, as `ping` prints them: percentiles need more than its summary."""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
from typing import TYPE_CHECKING

from fastun.lab.host import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastun.lab.host import Host

# Below 2 ms, ping wants to be root; and what it measures then disturbs what it measures.
INTERVAL_S = 0.01
# After the last request.
SLACK_S = 10.0


@contextlib.contextmanager
def pinging(source: Host, address: str, duration_s: float) -> Iterator[Callable[[], list[float]]]:
    """Send echo requests for `duration_s` meanwhile.

    What is yielded waits for the last one and returns the times of all answers; LabError if there
    was none.
    """
    n = max(1, int(duration_s / INTERVAL_S))
    # fmt: off
    process = source.spawn("ping", "-n", "-i", str(INTERVAL_S), "-c", str(n), "-W", "1", address,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # fmt: on

    def round_trips_ms() -> list[float]:
        try:
            output, _ = process.communicate(timeout=duration_s + SLACK_S)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"ping {address}: no end within {SLACK_S:g} s of its time") from error
        times = parse_round_trips_ms(output.decode(errors="replace"))
        if not times:
            raise LabError(f"ping {address}: no answer")
        return times

    with process:
        try:
            yield round_trips_ms
        finally:
            process.kill()


def parse_round_trips_ms(text: str) -> list[float]:
    """Return the times of the answers in what ping printed, without duplicates' ones."""
    return [
        float(match[1])
        for line in text.splitlines()
        if (match := re.search(r"\btime=([\d.]+) ms$", line))
    ]


def percentiles(times: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile, which is one of the times (nearest rank)."""
    rank = -(-len(times) * 99 // 100)
    return statistics.median(times), sorted(times)[rank - 1]
