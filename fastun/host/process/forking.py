"""The start of the host process: a fork of the command, with its settings and nothing of a network.

It is forked before there are threads, and before the gateway imports what it needs: so each of the
two imports what is its own, at the same time. A session of its own: a terminal's Ctrl-C is for the
gateway, which ends it. Nothing kills it when the gateway dies, since it is the one that restores
the host then.

What both need is imported before the fork, and is in memory once.

Where a service manager's filter forbids capset(2), as in our units, the command gets rid of its
capabilities by executing itself anew after the fork (handing_over.py).
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Final

from fastun import ending, imports
from fastun.errors import RuntimeFailure
from fastun.host import users
from fastun.host.process import handing_over, supply_messages
from fastun.host.process.client import HostClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.config.settings import Settings
    from fastun.host.users import Users

# What a client has with one server (tests/fault/test_host_faults.py).
FILES_LEAST: Final = 64


def started(
    settings: Settings, reread: Callable[[Callable[[str], None]], Settings] | None = None
) -> HostClient:
    """Return the host process of a gateway with these settings. In a process with one thread.

    ``reread`` returns the settings of the same command line and file as they are now (ConfigError).
    Raises RuntimeFailure.
    """
    _check_files()
    chosen = users.choose()
    if (kept := handing_over.taken()) is not None:
        ending.ring(kept.bell)
        return HostClient(kept.end, kept.pid, supply_messages.ANSWERS, chosen)
    bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = os.fork()
    except OSError as error:
        raise RuntimeFailure(f"cannot start a process: {error.strerror}") from None
    if pid == 0:
        ours.close()
        _run(theirs, bell, settings, reread, chosen)
    theirs.close()
    handing_over.execute_if_needed(handing_over.Kept(ours, bell, pid))
    ending.ring(bell)
    return HostClient(ours, pid, supply_messages.ANSWERS, chosen)


def _check_files() -> None:
    """Refuse a limit with which no gateway starts: each of its parts would fail in its own way."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < FILES_LEAST:
        raise RuntimeFailure(
            f"open files: the limit is {most}, and at least {FILES_LEAST} are needed; raise it"
            " (ulimit -n, LimitNOFILE= of the service)"
        )


def _run(
    end: socket.socket,
    bell: int,
    settings: Settings,
    reread: Callable[[Callable[[str], None]], Settings] | None,
    chosen: Users,
) -> None:
    """Be the host process; does not return."""
    code = 1
    try:
        os.setsid()
        # A service manager may signal all processes of a service; stopping is the gateway's
        # decision. Handled and not ignored: programs that are started would inherit that.
        ending.handle(lambda *_: None, (*ending.SIGNALS, *ending.OTHER_SIGNALS))
        signal.set_wakeup_fd(-1)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0)
        with imports.kept(), imports.without("ssl"):  # as the gateway's (cli.py)
            from fastun.host.process.main import serve  # noqa: PLC0415
        serve(end, bell, settings, reread, chosen)
        code = 0
    except BaseException:  # noqa: BLE001 (nothing is above)
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)
