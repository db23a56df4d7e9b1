"""Where costs are measured: on two processors, however many there are.

With more, writers look for the next packet for a while before they sleep, and what they spend on
that would count as the cost of packets; and figures of different machines are of the same kind.
Two hardware threads of one core would slow each other, so they are of different cores.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

N_MAX = 2
_TOPOLOGY = Path("/sys/devices/system/cpu")


@contextlib.contextmanager
def few() -> Iterator[set[int]]:
    """Keep this process and those that it starts meanwhile on N_MAX processors; yield them."""
    before = os.sched_getaffinity(0)
    chosen = choose(before)
    os.sched_setaffinity(0, chosen)
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, before)


def choose(allowed: set[int], topology: Path = _TOPOLOGY) -> set[int]:
    """Return the first N_MAX of these that are of different cores, where there are as many."""
    by_core: dict[str, int] = {}
    for number in sorted(allowed):
        by_core.setdefault(_core(number, topology), number)
    chosen = [*by_core.values()]
    chosen += [number for number in sorted(allowed) if number not in chosen]
    return set(chosen[:N_MAX])


def _core(number: int, topology: Path) -> str:
    """Return what names its core: the list of its threads. Itself, where that cannot be read."""
    file = topology / f"cpu{number}" / "topology" / "thread_siblings_list"
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return f"{number} alone"
