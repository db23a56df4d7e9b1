"""``fastun status --ready``: whether traffic can pass, for a container's health check and scripts.

What /readyz answers, but by the control socket: it works where the metrics address is off.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fastun.errors import RuntimeFailure
from fastun.status import control
from fastun.status.report import living

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.status.reply import Status


def show(interface: str | None, run_dir: Path) -> None:
    """Print a line for each gateway that is ready. RuntimeFailure, which names those that are not.

    Of ``interface``, or of all that run: there has to be one.
    """
    sockets = [control.socket_path(run_dir, interface)] if interface else living(run_dir)
    faults = []
    for path in sockets:
        try:
            status = control.request(path, "status")
        except RuntimeFailure as error:
            faults.append(str(error))
            continue
        if fault := _fault(status):
            faults.append(f"{status.interface} is not ready: {fault}")
        else:
            sys.stdout.write(f"{status.interface}: ready{_but(status)}\n")
    if faults:
        raise RuntimeFailure("; ".join(faults))


def _fault(status: Status) -> str:
    if status.not_ready is None:
        return f"fastun {status.version} does not say whether it is; restart it"
    return status.not_ready


def _but(status: Status) -> str:
    """Return what is wrong though traffic passes."""
    return f", but DNS does not work: {status.dns.fault}" if status.dns and status.dns.fault else ""
