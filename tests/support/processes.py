"""The processes of a gateway, whichever there are: it, and what it and they have started."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fastun.lab.host import LabError, wait_until

if TYPE_CHECKING:
    from fastun.lab.tunnel import GatewayProcess


def processes(gateway: GatewayProcess) -> dict[int, str]:
    """Return all by their process IDs, with their titles; "gateway" is the first's."""
    found = {gateway.process.pid: "gateway"}
    for child in psutil.Process(gateway.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = (child.cmdline() or [""])[0]
            if title.startswith("fastun: "):
                found[child.pid] = title.removeprefix("fastun: ").removesuffix("/0")
    return found


def find_worker(gateway: GatewayProcess, name: str) -> int | None:
    """Return the process of a worker, "tun-reader/1" or of lane 0 "tun-reader", or the template."""
    pids = (p for p, title in processes(gateway).items() if title == name.removesuffix("/0"))
    return next(pids, None)


def worker_pid(gateway: GatewayProcess, name: str) -> int:
    """Return the same. LabError if there is none."""
    if (pid := find_worker(gateway, name)) is None:
        raise LabError(f"no {name} of {gateway.role}")
    return pid


def kill_worker(gateway: GatewayProcess, name: str) -> int:
    """Kill it, as soon as there is one; return which it was."""
    wait_until(lambda: find_worker(gateway, name) is not None, f"{name} runs")
    pid = worker_pid(gateway, name)
    os.kill(pid, signal.SIGKILL)
    return pid


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, whether it was collected or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in ("Z", "X")
