"""fastun whose further lanes are opened at once, or by little load.

Else that takes a core that has nothing to do, which the machine of a test has not.
"""

from __future__ import annotations

import sys

_PROGRAM = """
from fastun.lane import opening
opening.BUSY_SHARE, opening.IDLE_CORES = {share}, -1.0
from fastun.command.cli import main
main()
"""

AT_ONCE = (sys.executable, "-c", _PROGRAM.format(share=0.0))
BY_LITTLE_LOAD = (sys.executable, "-c", _PROGRAM.format(share=0.005))
