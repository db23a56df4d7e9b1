"""The command executes itself anew, to lose its capabilities, and keeps its host process.

    fastun serve (CAP_NET_ADMIN, from the unit)  --fork-->  fastun: host (keeps it)
      |  clears the ambient set, which a filter does not forbid
      `- exec fastun serve: the same process, without any capability, with the socket to the host

It costs a quarter of a second at the start, beside which the host process makes the device, and
only where the filter is as strict as that.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Final, NamedTuple

from fastun.errors import RuntimeFailure

_VARIABLE: Final = "FASTUN_HOST_PROCESS"


class Kept(NamedTuple):
    """What a command has of its host process: the socket, what tells it of the end, its number."""

    end: socket.socket
    bell: int
    pid: int


def taken() -> Kept | None:
    """Return what this command had before it was executed anew, None for a first start."""
    text = os.environ.pop(_VARIABLE, "")
    if not text:
        return None
    end, bell, pid = map(int, text.split(","))
    for descriptor in (end, bell):
        os.set_inheritable(descriptor, False)
    return Kept(socket.socket(fileno=end), bell, pid)


def execute_if_needed(kept: Kept) -> None:
    """Execute this command anew where only that takes its capabilities; else return.

    Raises RuntimeFailure.
    """
    if os.geteuid() == 0:
        return
    from fastun import native  # noqa: PLC0415 (after the fork: the host process may do without)

    try:
        if not native.needs_exec():
            return
        for descriptor in (kept.end.fileno(), kept.bell):
            os.set_inheritable(descriptor, True)
        os.environ[_VARIABLE] = f"{kept.end.fileno()},{kept.bell},{kept.pid}"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (no shell)
    except OSError as error:
        raise RuntimeFailure(f"cannot give up capabilities: {error.strerror}") from None
