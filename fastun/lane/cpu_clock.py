"""The CPU time of another process, in nanoseconds: /proc counts it in ticks of 10 ms."""

from __future__ import annotations

import time


def process_cpu_s(pid: int) -> float:
    """Return the seconds that all threads of a process have run; OSError if it is gone."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock's number: clock_getcpuclockid(3)
