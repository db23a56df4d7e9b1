"""The clock of sessions: it never steps, and goes on while the machine sleeps.

A laptop that wakes must not take yesterday's session for a young one (CLOCK_MONOTONIC would).
"""

import time


def boottime_s() -> float:
    """Return CLOCK_BOOTTIME in seconds; only differences mean something."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
