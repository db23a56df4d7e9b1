"""What each stage of a tunnel cost while traffic went through: processor time by role.

The gateways count it in the kernel's clock ticks, 10 ms on most machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastun.native import DIRECTIONS, ROLES
from fastun.status import control

if TYPE_CHECKING:
    from fastun.lab.tunnel import GatewayProcess
    from fastun.status.reply import Status

MEBIBYTE = 2**20

# Which of a gateway's roles carry the data; the other two carry TCP's acknowledgements.
SENDING = tuple(role for role in ROLES if DIRECTIONS[role] == "outbound")
RECEIVING = tuple(role for role in ROLES if DIRECTIONS[role] == "inbound")

CpuSeconds = Mapping[str, float]


def status_of(gateway: GatewayProcess) -> Status:
    """Ask a gateway of a laboratory."""
    path = control.socket_path(gateway.log_file.parent, gateway.interface)
    return control.request(path, "status")


def cpu_seconds(status: Status) -> dict[str, float]:
    """Return the processor time of each role so far, over all lanes."""
    totals = dict.fromkeys(ROLES, 0.0)
    for lane in status.lanes:
        for direction in (lane.outbound, lane.inbound):
            for stage in (direction.reader, direction.writer):
                totals[stage.role] += stage.cpu_seconds
    return totals


def spent(before: Status, after: Status) -> dict[str, float]:
    """Return the processor time that each role took between two looks at one gateway."""
    first, last = cpu_seconds(before), cpu_seconds(after)
    return {role: max(0.0, last[role] - first[role]) for role in ROLES}


def us_per_mebibyte(seconds: float, n_bytes: int) -> float:
    """Return processor time in µs per MiB carried; 0 where nothing was."""
    return 1e6 * seconds * MEBIBYTE / n_bytes if n_bytes else 0.0
