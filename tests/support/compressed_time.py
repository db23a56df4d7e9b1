"""A gateway with other constants of its timers and keys; all else is as fastun starts it."""

from __future__ import annotations

import sys

_PROGRAM = """
from fastun.gateway import run as gateway
from fastun.session.timer_constants import TimerConstants
run, constants = gateway.run, TimerConstants(**{constants})
gateway.run = lambda settings, **more: run(settings, constants, **more)
from fastun.command.cli import main
main()
"""


def gateway_with(**constants: float) -> tuple[str, str, str]:
    """Return the command of fastun whose gateway has these `TimerConstants`."""
    return sys.executable, "-c", _PROGRAM.format(constants=constants)
