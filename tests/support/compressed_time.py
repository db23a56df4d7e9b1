"""A gateway with other constants of its timers and keys; all else is as fastun starts it."""

from __future__ import annotations

import sys

_PROGRAM = """
from fastun.gateway import run as gateway
from fastun.session.timer_constants import TimerConstants
from fastun.link.stream import dialler
run, constants = gateway.run, TimerConstants(**{constants})
{more}
dialler.LASTING_LINK_S = {lasting_link_s} or dialler.LASTING_LINK_S
gateway.run = lambda settings, **more: run(settings, constants, **more)
from fastun.command.cli import main
main()
"""


def gateway_with(
    lasting_link_s: float = 0.0, more: str = "", **constants: float
) -> tuple[str, str, str]:
    """Return the command of fastun whose gateway has these `TimerConstants`.

    ``lasting_link_s``: how long a stream has to last to be dialled again at once; 0: as ever.
    ``more``: other lines of Python before it starts.
    """
    program = _PROGRAM.format(constants=constants, lasting_link_s=lasting_link_s, more=more)
    return sys.executable, "-c", program
