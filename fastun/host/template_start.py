"""How a template of workers (fastun/lane/template.py) is started: as a program, with root's rights.

It imports what workers need, which a user without rights may not be able to read, and then gives
the rights up before it reads anything; another user's capabilities are not for it. Where the
gateway has none itself, its host process starts the template, as a child of the gateway's
(CLONE_PARENT), which forks workers that are that as well.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from fastun import descriptors, log, native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.host.users import Users

MODULE = "fastun.lane.template_process"


def started(users: Users, gateway_pid: int) -> tuple[int, socket.socket]:
    """Return a template's process ID, and our end of its channel. Any thread. Raises OSError.

    It is a child of the gateway's, which is this process or its parent.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, contextlib.ExitStack() as undo:
        undo.callback(ours.close)
        numbers = (theirs.fileno(), gateway_pid, users.user, users.group)
        # -I: neither the environment nor the current directory has a say in what is imported.
        # -u: a line that does not fit a full stderr is lost at once, and does not block it.
        arguments = [sys.executable, "-I", "-u", "-m", MODULE, *map(str, numbers)]
        environment = [f"{name}={value}" for name, value in os.environ.items()]
        with _stderr() as stderr:
            pid = native.start_process(
                arguments,
                environment,
                theirs.fileno(),
                stderr,
                sibling=gateway_pid != os.getpid(),
                has_rights=users.user != 0,  # to change to that one
            )
        with contextlib.suppress(OSError):  # it has ended
            resource.prlimit(pid, resource.RLIMIT_NOFILE, descriptors.limits())
        undo.pop_all()
    return pid, ours


@contextlib.contextmanager
def _stderr() -> Iterator[int]:
    """Yield what a template has as its stderr; -1: ours."""
    chosen = log.stderr_of_workers()
    if chosen != subprocess.DEVNULL:
        yield -1 if chosen is None else chosen
        return
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield null
    finally:
        os.close(null)
