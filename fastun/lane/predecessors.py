"""The dead workers of a role: collected, and the CPU time that they have used."""

from __future__ import annotations

import os
import signal


class Predecessors:
    """Those of one worker. One that died in a debugger's hands is that one's first to collect."""

    def __init__(self) -> None:
        """Begin with none."""
        self.cpu_seconds = 0.0
        self._held: list[int] = []  # dead, and a debugger has not let go of them

    def collect(self, pid: int) -> int:
        """Collect a dead child; return its exit status (negative: a signal).

        One that a debugger holds is not waited for: it counts as killed, and is collected with a
        later one.
        """
        self._held = [each for each in self._held if self._collected(each) is None]
        status = self._collected(pid)
        if status is None:
            self._held.append(pid)
            return -signal.SIGKILL
        return status

    def _collected(self, pid: int) -> int | None:
        collected, status, usage = os.wait4(pid, os.WNOHANG)
        if not collected:
            return None
        self.cpu_seconds += usage.ru_utime + usage.ru_stime
        return os.waitstatus_to_exitcode(status)
