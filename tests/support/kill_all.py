"""A fastun that is killed with all its processes, so that none is left to restore the host."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastun.lab.host import Host


def kill_all(host: Host) -> None:
    """Kill all that runs on a host; none of it sees that of another."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in host.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
