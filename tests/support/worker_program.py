"""A worker as a process of a test's own, without the template that forks them elsewhere."""

from __future__ import annotations

import os
import sys

_PROGRAM = """
import sys
from fastun.lane.worker_start import run
run(sys.argv[1], *map(int, sys.argv[2:]))
"""


def worker_command(name: str, channel_fd: int) -> list[str]:
    """Return the command; ``name`` is ROLE/LANE, this process the gateway."""
    # Without -I: of several copies of the checkout each is to test its own.
    return [sys.executable, "-c", _PROGRAM, name, str(channel_fd), str(os.getpid())]
