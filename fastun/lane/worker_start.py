"""A worker process from its fork (template_process.py) to its end.

It starts with no more rights than the template has kept, maps what it shares with others, and gives
up all that it does not need for its work (csrc/confine.h) before it touches anything that came from
the network.
From then on it opens no file, so all that it imports it has imported before.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import NoReturn

import setproctitle

from fastun import native
from fastun.errors import FastunError, one_line
from fastun.lane.channel import Channel
from fastun.lane.messages import Boot, WorkerFailed
from fastun.lane.worker import Worker


def run(name: str, channel_fd: int, gateway_pid: int) -> NoReturn:
    """Be the worker ``name``, ROLE/LANE, until the gateway lets it go or dies.

    Ends without Python's own clean-up, which makes system calls that a worker may not make.
    """
    setproctitle.setproctitle(f"fastun: {name}")
    # A terminal's ^C, ^\ and hang-up are for the gateway, which stops its workers. A group of its
    # own is enough: in a session of its own the scheduler (autogroup) weighs each worker like a
    # whole login, and an idle ping took 9 to 14 % longer.
    os.setpgid(0, 0)
    channel = Channel(socket.socket(fileno=channel_fd))
    channel.bear_shortages(native.rest)
    try:
        native.hide_memory()
        native.die_with_parent(gateway_pid)
        _work(name.partition("/")[0], channel, gateway_pid)
    except (BrokenPipeError, ConnectionResetError, ProcessLookupError):
        os._exit(0)  # the gateway is gone
    except (FastunError, OSError) as error:
        _report_failure(channel, WorkerFailed(one_line(str(error))))
    except Exception as error:  # noqa: BLE001 (printing a traceback would open source files)
        _report_failure(channel, WorkerFailed(_described(error)))
    os._exit(1)


def _work(role: str, channel: Channel, gateway_pid: int) -> NoReturn:
    boot, fds = channel.receive() or (None, [])
    if not isinstance(boot, Boot):
        os._exit(1)
    worker = Worker(role, channel, boot, fds)
    try:
        confined = native.confine(role, worker.stats, user=0, group=0, parent_pid=gateway_pid)
    except ProcessLookupError:
        raise
    except OSError as error:
        raise FastunError(f"cannot confine the worker: {error.strerror}") from None
    worker.run(confined)
    os._exit(0)


def _described(error: Exception) -> str:
    """Return an error that nothing expected, with the place where it was raised."""
    place, frame = "", error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        place = f" ({code.co_qualname}, line {frame.tb_lineno})"
        frame = frame.tb_next
    return one_line(f"unexpected {type(error).__name__}: {error}{place}")


def _report_failure(channel: Channel, failed: WorkerFailed) -> None:
    """Leave the reason to the gateway: its log has a format and limits, our stderr has neither."""
    channel.set_blocking(True)
    with contextlib.suppress(OSError):  # the gateway is gone; or it learns the exit status only
        channel.send(failed)
