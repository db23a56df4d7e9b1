"""The template process: ``python -I -m fastun.lane.template_process CHANNEL_FD GATEWAY UID GID``.

The gateway is a process ID; the user is that of the workers, 0 for the one that has started it.
It is that user's, and has no capability, before it reads anything.

Says that it is ready, by a process ID of 0. Then it reads requests (template.py): a worker's name,
with one descriptor. It answers each with the process ID of a fork of itself, which goes on as that
worker.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from fastun import imports

# What msgspec and others would like to have, and workers have no use for: 4 MiB. Of sockets they
# have what is written in C, without its names in Python's enumerations.
with (
    imports.without("typing_extensions"),
    imports.standing_in("decimal", "logging", "platform", "threading"),
    imports.standing_in("msgspec.inspect", "msgspec._json_schema"),
    imports.in_place_of("socket", _socket),
):
    import setproctitle

    from fastun import ending, native
    from fastun.lane import channel, packing, worker_start

_RETRY_S = 0.05

_Result = TypeVar("_Result")


def main() -> None:
    """Fork workers until the gateway closes the channel or dies."""
    channel_fd, gateway_pid, *user = map(int, sys.argv[1:])
    setproctitle.setproctitle("fastun: template")
    # A service manager may signal all processes of a service; stopping is the gateway's decision.
    for number in ending.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(ConnectionError, ProcessLookupError):  # the gateway is gone
        native.confine_template(*user)
        native.hide_memory()  # this and the next are forgotten where the user changes
        native.die_with_parent(gateway_pid)
        native.load_sealing_library()  # once for all workers, as the next
        packing.prepare()
        gc.collect()
        gc.freeze()  # collecting would write to what all share
        request = _fork_until_child(_socket.socket(fileno=channel_fd))
        if request is not None:
            worker_start.run(*request, gateway_pid)


def _fork_until_child(end: _socket.socket) -> tuple[str, int] | None:
    """Answer requests; return the name and the channel of the worker that this process is now.

    None when the gateway has closed the channel.
    """
    with contextlib.closing(end):
        end.send(channel.FORK_ANSWER.pack(0))
        while True:
            name, fds, _ = _patiently(lambda: channel.receive(end, 0))
            if not name:
                return None
            try:
                pid = native.fork_sibling()
            except OSError as error:
                pid = -(error.errno or 1)
            if pid == 0:
                return name.decode(), fds[0]
            for fd in fds:
                os.close(fd)
            _patiently(partial(end.send, channel.FORK_ANSWER.pack(pid)))


def _patiently(call: Callable[[], _Result]) -> _Result:
    """Call again while the kernel has no memory: this process is needed when it has some."""
    while True:
        try:
            return call()
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.ENOBUFS):
                raise
        time.sleep(_RETRY_S)


if __name__ == "__main__":
    main()
