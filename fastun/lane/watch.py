"""Notices workers that are stopped or stuck, and ends them: the lane then replaces them.

A stopped one (SIGSTOP, say) the kernel reports to us, its parent. One that says nothing for a while
is asked by a heartbeat, which it answers between two runs of its loop; one that does not answer is
stuck: in its loop, in Python or in the kernel. While a tunnel is quiet (pace.py) none is asked.

One that a debugger holds is left to it, and so is its lane: whoever attaches one to a worker wants
to look at that worker, not at its successor. The log says so.

A host that was suspended, or a whole tree that was stopped, must not cost its workers. So nothing
is ended by what one look sees, and what passes between two looks counts as a few seconds at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from fastun import ending, log
from fastun.lane.heartbeat import Heartbeat
from fastun.native import ROLES
from fastun.pace import PACE, QUIET_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.lane.template import Template
    from fastun.lane.worker_process import WorkerProcess

LOOK_S: Final = 1.0

#: A worker that has said nothing for so long is asked, and without an answer by then it is stuck.
#: A thousand rekeys wait in its channel for less; 10 s is what is promised.
ASK_S: Final = 2.0
STUCK_S: Final = 8.0

#: Whoever stops a whole tree, or lets it go on, needs less from its first process to the last.
STOPPED_S: Final = 1.0

#: A link-reader whose thousand peers all send at once and are limited uses some 550 MiB; the
#: tun-writer has no queues. What uses more than this is out of its mind, or in an attacker's hands.
RESIDENT_BYTES_MAX: Final = dict.fromkeys(ROLES, 1 << 30) | {"tun-writer": 256 << 20}

_PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")

Why = Literal["stopped", "stuck"]


class LaneWatch:
    """Of the workers of all lanes, and of their template. Event loop only."""

    def __init__(self, workers: Iterable[WorkerProcess], template: Template) -> None:
        """Prepare; :meth:`run` watches."""
        self._workers, self._template = tuple(workers), template
        self._stopped: dict[int, float] = {}  # process IDs, and since when
        self._held: set[int] = set()  # those that a debugger holds, and the log says so
        self._looked_s = self._looked_for_stopped_s = 0.0
        self.ended: Counter[tuple[str, Why]] = Counter()  # by name
        self._log = log.get("lane")

    def ended_of(self, name: str) -> dict[str, int]:
        """Return how often a worker was ended for each reason there is. Any thread."""
        return {why: self.ended[name, why] for why in get_args(Why)}

    async def run(self) -> None:
        """Watch, for ever."""
        loop = asyncio.get_running_loop()
        self._looked_s = time.monotonic()
        before = signal.signal(
            signal.SIGCHLD, lambda *_: loop.call_soon_threadsafe(self._look_for_stopped)
        )
        try:
            while True:
                await PACE.next_look(LOOK_S)
                self._look()
        finally:
            signal.signal(signal.SIGCHLD, before)

    def _look(self) -> None:
        now_s = time.monotonic()
        passed_s, self._looked_s = min(now_s - self._looked_s, QUIET_S), now_s
        self._look_for_stopped()
        if not ending.is_asked():
            self._template.replace_ended()
        for worker in self._workers:
            if worker.pid is not None and resident_bytes(worker.pid) > _max_of(worker):
                worker.kill(f"it uses more than {_max_of(worker) >> 20} MiB of memory")
            elif worker.pid is not None and worker.pid not in self._stopped and not PACE.is_quiet:
                self._look_at_silent(worker, passed_s)

    # -- stopped ------------------------------------------------------------------------------

    def _look_for_stopped(self) -> None:
        """Look at all, and while one is stopped once more in a second: in the quiet as well."""
        now_s = time.monotonic()
        # Where this process was stopped itself since, they may only not have gone on yet.
        was_away = now_s - self._looked_for_stopped_s > 2 * STOPPED_S
        self._looked_for_stopped_s = now_s
        before = {} if was_away else self._stopped
        pids = [worker.pid for worker in self._workers] + [self._template.pid]
        self._stopped = {
            pid: before.get(pid, now_s) for pid in pids if pid is not None and is_stopped(pid)
        }
        for pid, since_s in self._stopped.items():
            if now_s - since_s >= STOPPED_S and not self._is_held(pid):
                self._end_stopped(pid)
        if any(now_s - since_s < STOPPED_S for since_s in self._stopped.values()):
            asyncio.get_running_loop().call_later(STOPPED_S, self._look_for_stopped)

    def _end_stopped(self, pid: int) -> None:
        if pid == self._template.pid:
            self._log.warning("the template process was stopped; replacing it", pid=pid)
            with contextlib.suppress(PermissionError):  # one that has not given up its rights yet
                os.kill(pid, signal.SIGKILL)
            self._template.renew()
            return
        worker = next(each for each in self._workers if each.pid == pid)
        self.ended[worker.name, "stopped"] += 1
        worker.kill("it was stopped by a signal; to look at it, attach a debugger")

    # -- stuck --------------------------------------------------------------------------------

    def _look_at_silent(self, worker: WorkerProcess, passed_s: float) -> None:
        was_s, worker.silent_s = worker.silent_s, worker.silent_s + passed_s
        if was_s < ASK_S <= worker.silent_s:
            worker.send(Heartbeat())
        elif worker.silent_s >= STUCK_S and self._is_held(worker.pid):
            worker.silent_s = 0.0  # when it goes on it has all its time to answer
        elif worker.silent_s >= STUCK_S:
            self.ended[worker.name, "stuck"] += 1
            worker.kill(f"it has not answered for {STUCK_S - ASK_S:g} s")

    # -- debuggers ----------------------------------------------------------------------------

    def _is_held(self, pid: int | None) -> bool:
        tracer = 0 if pid is None else tracer_of(pid)
        if pid is None or tracer == 0:
            self._held -= {pid}
        elif pid not in self._held:
            self._held.add(pid)
            self._log.warning(
                "a debugger holds a worker, and what it carries waits; let it go on, or kill it to "
                "have it replaced",
                pid=pid,
                debugger=tracer,
            )
        return tracer != 0


def _max_of(worker: WorkerProcess) -> int:
    return RESIDENT_BYTES_MAX[worker.role]


def resident_bytes(pid: int) -> int:
    """Return how much memory a process uses, with what it shares; 0: that cannot be read."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        statm = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
        return int(statm.split()[1]) * _PAGE_BYTES
    return 0


def is_stopped(pid: int) -> bool:
    """Return whether a child of ours is stopped by a signal; what there is to read of it stays."""
    with contextlib.suppress(ChildProcessError):
        how = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, pid, how) is not None
    return False


def tracer_of(pid: int) -> int:
    """Return the process that traces another, a debugger's; 0: none."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        if found := re.search(r"^TracerPid:\s*(\d+)", status, re.MULTILINE):
            return int(found[1])
    return 0
