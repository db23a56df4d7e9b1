"""CPU time: of the whole machine, and of the processes of a tunnel.

What a packet costs is spent in the programs, in iperf3 and in the kernel on behalf of whoever runs
at the moment, so only the machine's total holds all of it. What the machine spends while nothing
is measured is taken off.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fastun.lane.cpu_clock import process_cpu_s

if TYPE_CHECKING:
    from collections.abc import Iterable

# CPU seconds a second. Others that take more when the machine should be idle take less while it is
# loaded, so what they take cannot be taken off: the machine's figure is then left out.
IDLE_SHARE_MAX = 0.2

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# The first line of /proc/stat (proc(5)): the columns in which a CPU works for this machine. Not
# counted: idle (3), iowait (4), steal (7), and the guests' (8, 9), which user and nice include.
_BUSY_COLUMNS = (0, 1, 2, 5, 6)


def machine_cpu_s() -> float:
    """Return the seconds of CPU time that the machine has spent since it started, to 10 ms."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        columns = file.readline().split()[1:]
    return sum(int(columns[index]) for index in _BUSY_COLUMNS) / _TICKS_PER_SECOND


def processes_cpu_s(pids: Iterable[int]) -> float:
    """Return the seconds of CPU time of processes and of their children that have ended."""
    total = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        total += process_cpu_s(pid) + times.children_user + times.children_system
    return total


def idle_share(duration_s: float) -> float:
    """Watch the idle machine for a while; return the CPU seconds that it spends a second."""
    before, started = machine_cpu_s(), time.monotonic()
    time.sleep(duration_s)
    return (machine_cpu_s() - before) / (time.monotonic() - started)


@dataclass(slots=True)
class Spent:
    """The CPU time of the machine and of some processes, from its making on."""

    pids: list[int]
    idle_share: float

    def __post_init__(self) -> None:
        """Start the count."""
        self._started = time.monotonic()
        self._machine_s = machine_cpu_s()
        self._processes_s = processes_cpu_s(self.pids)

    _started: float = 0.0
    _machine_s: float = 0.0
    _processes_s: float = 0.0

    def so_far(self) -> tuple[float, float]:
        """Return the seconds of the machine, less its idle share, and of the processes."""
        idle_s = self.idle_share * (time.monotonic() - self._started)
        machine_s = machine_cpu_s() - self._machine_s - idle_s
        return max(0.0, machine_s), processes_cpu_s(self.pids) - self._processes_s
