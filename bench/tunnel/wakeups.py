"""How often the processes of an idle tunnel wake up, which keeps a processor from sleeping."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.tunnel.pair import Pair

# What the last measure has left to do, and until the tunnel is quiet.
_SETTLE_S: Final = 8.0
_WATCH_S: Final = 12.0
_VOLUNTARY: Final = re.compile(r"^voluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)


def per_second(pair: Pair) -> float:
    """Return the wake-ups a second of one end, the mean of both."""
    time.sleep(_SETTLE_S)
    before = _switches(pair.program_pids())
    time.sleep(_WATCH_S)
    after = _switches(before)
    return sum(after[pid] - before[pid] for pid in after) / _WATCH_S / len(pair.hosts)


def _switches(pids: Iterable[int]) -> dict[int, int]:
    """Return how often the threads of each process have gone to sleep so far."""
    counted = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # ended since
            files = Path("/proc", str(pid), "task").glob("*/status")
            counted[pid] = sum(int(_VOLUNTARY.findall(file.read_text())[0]) for file in files)
    return counted
