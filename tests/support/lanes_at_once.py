"""fastun whose further lanes are opened at once, or by little load.

Else that takes a core that has nothing to do, which the machine of a test has not.
"""

from __future__ import annotations

import sys

_ON_BUSY_CORES = """
from fastun.lane import opening
opening.BUSY_SHARE, opening.IDLE_CORES = {share}, -1.0
"""
_PROGRAM = """
{more}
from fastun.command.cli import main
main()
"""


def _of(share: float) -> tuple[str, str, str]:
    return sys.executable, "-c", _PROGRAM.format(more=_ON_BUSY_CORES.format(share=share))


# So few packets a second open all, and keep them open.
_BY_FEW_PACKETS = """
from fastun.link.datagram import way
way.OPENED_AT_PER_S, way.KEPT_FROM_PER_S = 20, 5
"""

LINES = _ON_BUSY_CORES.format(share=0.0)
AT_ONCE = _of(0.0)
BY_FEW_PACKETS = (
    sys.executable,
    "-c",
    _PROGRAM.format(more=_ON_BUSY_CORES.format(share=0.0) + _BY_FEW_PACKETS),
)
BY_LITTLE_LOAD = _of(0.005)
