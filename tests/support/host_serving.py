"""A host process that does what a test says, in place of changing this host."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from fastun import log
from fastun.ending import AskedToStop
from fastun.errors import ConfigError, RuntimeFailure
from fastun.host.process import messages
from fastun.host.process.channel import Unasked
from fastun.host.process.messages import Begun, HostNow
from fastun.host.process.server import Answered, HostServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPAIRS = {"address": 0}


class Work:
    """Answers by what is asked, and counts it."""

    def __init__(self) -> None:
        self.n_asked = 0
        self.many = threading.Barrier(4)

    def begin(self, _: messages.Begin) -> Answered:
        reader, writer = os.pipe()
        os.write(writer, b"device")
        os.close(writer)
        return Answered(Begun(index=7, offload=0, fwmark=9, dns_before=("", "", "")), (reader,))

    def keep_out(self, asked: messages.KeepOut) -> None:
        """Fail as the first text says."""
        self.n_asked += 1
        errors: dict[str, Exception] = {
            "config": ConfigError("interface.mtu: 7 is out of range"),
            "runtime": RuntimeFailure("device ft0 was deleted"),
            "system": OSError(19, "No such device"),
            "asked": AskedToStop(),
            "bug": ValueError("7"),
            "unasked": Unasked("something that is not allowed"),
        }
        for text in asked.outer:
            if text in errors:
                raise errors[text]

    def route_behind(self, asked: messages.RouteBehind) -> None:
        self.n_asked = len(asked.networks)

    def follow(self, _: messages.FollowEndpoints) -> None:
        self.many.wait(5)

    def close(self, _: messages.Close) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def now(self) -> HostNow:
        return HostNow(index=7, repairs=REPAIRS, n_changes=self.n_asked)

    @property
    def handlers(self) -> dict[Any, Callable[[Any], Any]]:
        return {
            messages.Begin: self.begin,
            messages.KeepOut: self.keep_out,
            messages.RouteBehind: self.route_behind,
            messages.FollowEndpoints: self.follow,
            messages.Close: self.close,
            messages.Ping: lambda _: None,
        }


Handlers = dict[Any, "Callable[[Any], Any]"]


async def _serve(end: socket.socket, more: Callable[[], Handlers]) -> None:
    work = Work()
    await HostServer(end, {**work.handlers, **more()}, work.now).run(os.eventfd(0))


@contextmanager
def host_process(more: Callable[[], Handlers] = dict) -> Iterator[tuple[socket.socket, int, int]]:
    """Yield the gateway's end, the process, and what can be read of its log.

    ``more`` makes handlers in that process, beside those of `Work`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            os.dup2(writer, 2)
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            log.configure("console", 0)
            asyncio.run(_serve(theirs, more))
        finally:
            os._exit(0)
    theirs.close()
    os.close(writer)
    try:
        yield ours, pid, reader
    finally:
        ours.close()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        os.close(reader)
