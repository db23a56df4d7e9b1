"""Whether one more lane is worth its while: those in use have enough to do, and a core has nothing.

Lanes that share cores only take turns on them, and each has less to do at once: on two cores four
streams took 10 % more CPU time in two lanes than in one, and 19 % in four
(docs/decisions/2026-11-30-lanes.md). So a peer begins with one, and what is opened stays.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.lane.lane import Lane

#: Between two looks, at the least.
LOOK_S: Final = 1.0

#: What the busiest worker of the lanes in use has of a core. It needs room for what comes at once.
BUSY_SHARE: Final = 0.6

#: How many of the cores that this process may use have nothing to do.
IDLE_CORES: Final = 1.0

_STAT: Final = Path("/proc/stat")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_IDLE_COLUMNS: Final = (4, 5)  # proc(5): idle, iowait


class Opening:
    """Of one gateway. Event loop only."""

    def __init__(self, lanes: Iterable[Lane], *, at_once: bool = False) -> None:
        """Look at these lanes. ``at_once``: every one is worth it from the beginning."""
        self._lanes = tuple(lanes)
        self._at_once = at_once
        self._looked_s = time.monotonic()
        self._idle_s = idle_seconds()
        self._used_s = self._used()
        self._idle_cores = 0.0
        self._shares = [0.0 for _ in self._lanes]

    def is_worth(self, in_use: Iterable[int]) -> bool:
        """Return whether to open one more lane beside those of these numbers."""
        if self._at_once:
            return True
        if time.monotonic() - self._looked_s >= LOOK_S:
            self._look()
        busiest = max((self._shares[lane] for lane in in_use), default=0.0)
        return busiest >= BUSY_SHARE and self._idle_cores >= IDLE_CORES

    def note_opened(self) -> None:
        """Begin anew: what was seen was before one more was there."""
        self._look()
        self._shares = [0.0 for _ in self._lanes]

    def _look(self) -> None:
        before_s, self._looked_s = self._looked_s, time.monotonic()
        passed_s = max(self._looked_s - before_s, 1e-9)
        idle_before_s, self._idle_s = self._idle_s, idle_seconds()
        used_before_s, self._used_s = self._used_s, self._used()
        self._idle_cores = (self._idle_s - idle_before_s) / passed_s
        self._shares = [
            max(now_s - was_s for now_s, was_s in zip(now, was, strict=True)) / passed_s
            for now, was in zip(self._used_s, used_before_s, strict=True)
        ]

    def _used(self) -> list[list[float]]:
        return [[each.cpu_seconds() for each in lane.workers.values()] for lane in self._lanes]


def idle_seconds() -> float:
    """Return for how long the cores that this process may use had nothing to do, all together.

    0 where that cannot be read: no core is idle then.
    """
    names = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    try:
        lines = _STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    ticks = 0
    for line in lines:
        columns = line.split()
        if columns and columns[0] in names:
            ticks += sum(int(columns[i]) for i in _IDLE_COLUMNS)
    return ticks / _TICKS_PER_SECOND
