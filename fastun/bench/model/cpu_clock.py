"""Processor time to the nanosecond: of a process, and of the kernel's softirqs.

A softirq runs on top of whatever process is there; when there are too many, ksoftirqd, a thread for
each core, goes on. Whether the process is charged for those on top of it depends on how the kernel
was built (IRQ_TIME_ACCOUNTING), which it does not tell, so that is tried.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

_CPUCLOCK_SCHED = 2  # posix-timers_types.h: the time that the scheduler has counted
# Of a line of /proc/stat (proc(5)), in ticks: user, nice, system, irq and softirq. Not counted are
# idle (4), iowait (5), what is stolen (8), and the guests' (9, 10), which user and nice include.
_BUSY_COLUMNS = (1, 2, 3, 6, 7)
_SOFTIRQ_COLUMN = 7
_NS_A_TICK = 10**9 // os.sysconf("SC_CLK_TCK")
_TRIAL_S = 0.05
_N_TRIALS = 3
# Of sending to oneself more than half is a softirq.
_CHARGED_SHARE_MIN = 0.8
_DATAGRAM = bytes(1400)


def of_process(pid: int) -> int:
    """Return what a process has spent, all its threads, in ns. ProcessLookupError."""
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError as error:
        raise ProcessLookupError(f"process {pid} has ended") from error


def machine_ns() -> int:
    """Return what our processors have spent since the machine started, in whole ticks."""
    return _columns_ns(_BUSY_COLUMNS)


def softirq_ns() -> int:
    """Return what they have spent in softirqs, which most kernels sample."""
    return _columns_ns((_SOFTIRQ_COLUMN,))


def _columns_ns(columns: Sequence[int]) -> int:
    names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = map(str.split, Path("/proc/stat").read_text(encoding="ascii").splitlines())
    ours = (fields for fields in lines if fields and fields[0] in names)
    return sum(int(fields[column]) for fields in ours for column in columns) * _NS_A_TICK


def softirq_threads() -> list[int]:
    """Return the threads that do what softirqs leave; none where /proc does not show them."""
    names = {f"ksoftirqd/{number}\n" for number in os.sched_getaffinity(0)}
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                if (directory / "comm").read_text(encoding="utf-8") in names:
                    found.append(int(directory.name))
    return found


def charges_processes(datagrams: socket.socket, address: str) -> bool:
    """Return whether the time of softirqs is in that of the process below them.

    `datagrams` is a UDP socket that may send to itself at `address`. What its processor did for
    other processes, the kernel tells; what a hypervisor took looks like softirqs, so one of
    several trials is enough.
    """
    datagrams.bind((address, 0))
    return any(_is_charged(datagrams) for _ in range(_N_TRIALS))


def _is_charged(datagrams: socket.socket) -> bool:
    own = datagrams.getsockname()
    before_s, waited_ns = time.monotonic(), _waited_ns()
    spent_ns = time.thread_time_ns()
    while time.monotonic() - before_s < _TRIAL_S:
        datagrams.sendto(_DATAGRAM, own)
    spent_ns = time.thread_time_ns() - spent_ns
    here_ns = (time.monotonic() - before_s) * 1e9 - (_waited_ns() - waited_ns)
    return spent_ns > _CHARGED_SHARE_MIN * here_ns


def _waited_ns() -> int:
    """Return how long this thread has waited for a processor."""
    try:
        fields = Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return 0
    return int(fields[1])
