"""The template: a process that has imported what a worker needs, and forks the workers.

            <-------------- ready: 0 ------------------
    gateway --name, the worker's end of its channel--> template --fork--> worker
            <-------------- process ID or errno -------

A fresh interpreter takes some 60 ms of CPU and 9 MiB for each worker; a fork takes a millisecond,
and shares what it does not write. The template has one thread, no keys and no descriptor but its
channel and stderr. Workers are the gateway's own children (CLONE_PARENT): whatever happens to the
template costs none of them, and the next fork starts another one.

Processes of one template have the same addresses and stack canaries. A worker that crashed may have
given them away, so after a fault signal the template is executed anew (`FAULTS`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Final, Self

from fastun import ending, log
from fastun.errors import FastunError, RuntimeFailure
from fastun.host import template_start
from fastun.host.sockets.maker import OWN, SocketMaker
from fastun.host.users import KEPT, Users
from fastun.lane.channel import FORK_ANSWER

#: After a worker's death by one of these, no other one may be forked from the same template.
FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGSYS}
)

# One that has just been started must import first, which may be waited for by `is_ready`, or by a
# `fork` that blocks the event loop. One that is ready and does not answer (it was stopped, say) is
# soon replaced.
READY_LIMIT_S = 10.0
ANSWER_LIMIT_S = 1.0
_END_LIMIT_S = 0.5
_LOOK_INTERVAL_S = 0.001
_ASKED_LOOK_S = 0.05

#: What the titles of the template and of workers begin with.
TITLE: Final = "fastun: "


# Returns the process ID of a template, a child of ours, and our end of its channel. OSError.
Start = Callable[[], tuple[int, socket.socket]]


class Template:
    """The template process of one gateway. Use as a context manager, on the main thread."""

    def __init__(
        self,
        sockets: SocketMaker = OWN,
        users: Users = KEPT,
        start: Start | None = None,
    ) -> None:
        """Prepare; nothing runs yet. ``sockets`` makes the workers' channels.

        Workers are of ``users``. ``start`` does what this process may not do itself.
        """
        self.sockets = sockets
        self.users = users
        self._start_one = start or (lambda: template_start.started(users, os.getpid()))
        self._pid: int | None = None
        self._channel: socket.socket | None = None
        self._is_ready = False
        self._started_s = 0.0
        self._ending: list[int] = []  # templates that end by themselves, and are to be collected
        self._answered: set[int] = set()  # workers whose process IDs are known
        self._may_have_lost = False  # one that was forked, and whose ID was never said
        self._lacks_said: set[tuple[str, ...]] = {()}
        self._log = log.get("lane")

    def is_news(self, lacks: tuple[str, ...]) -> bool:
        """Return whether it is to be said that workers lack this: of several lanes, once."""
        is_news = lacks not in self._lacks_said
        self._lacks_said.add(lacks)
        return is_news

    def __enter__(self) -> Self:
        """Start it, so that it imports while the gateway does other things.

        Raises RuntimeFailure.
        """
        try:
            self._start()
        except OSError as error:
            raise RuntimeFailure(f"cannot start a process: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        """End it. Its workers stay."""
        self._end()

    @property
    def pid(self) -> int | None:
        """The process, if it runs."""
        return self._pid

    def fork(self, name: str, inherited: socket.socket) -> int:
        """Return the process ID of a new worker, a child of ours, that has ``inherited``.

        Blocks for a millisecond, or until a fresh template is ready. Raises AskedToStop, and
        OSError; a template that did not answer is replaced at the next call.
        """
        self._collect_lost()
        if self._channel is None:
            self._start()
        channel = self._channel
        assert channel is not None  # noqa: S101 (started above)
        try:
            if not self._is_ready:
                self._wait_for_imports(channel)
                self._is_ready = len(channel.recv(FORK_ANSWER.size)) == FORK_ANSWER.size
            channel.settimeout(ANSWER_LIMIT_S)
            socket.send_fds(channel, [name.encode()], [inherited.fileno()])
            answer = _answer(channel)
        except (BlockingIOError, TimeoutError, ConnectionError):
            answer = b""
        if len(answer) != FORK_ANSWER.size:
            # A worker that it has forked all the same ends when `inherited`'s other end is closed,
            # and is collected before the next one is forked.
            self._may_have_lost = True
            self._end()
            raise OSError(errno.ECHILD, "the template process does not answer")
        (pid,) = FORK_ANSWER.unpack(answer)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        self._answered.add(pid)
        return int(pid)

    def _wait_for_imports(self, channel: socket.socket) -> None:
        """Wait until it says something. Raises AskedToStop."""
        until_s = max(self._started_s + READY_LIMIT_S, time.monotonic() + ANSWER_LIMIT_S)
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        while not poll.poll(_ASKED_LOOK_S * 1000) and time.monotonic() < until_s:
            ending.check()
        channel.setblocking(False)

    def _collect_lost(self) -> None:
        """Collect what ended of those that a template forked without saying so.

        Known workers are collected by their owners, other programs by whatever started them.
        """
        if not self._may_have_lost:
            return
        import psutil  # noqa: PLC0415 (0.8 MiB, for what hardly ever happens)

        try:
            children = psutil.Process().children()
        except (psutil.Error, OSError):  # /proc cannot be read now: with the next fork
            return
        self._answered &= {child.pid for child in children}
        for child in children:
            with contextlib.suppress(psutil.Error, ChildProcessError):
                is_dead = child.status() == psutil.STATUS_ZOMBIE and child.name().startswith(TITLE)
                if is_dead and child.pid not in self._answered:
                    os.waitpid(child.pid, os.WNOHANG)
                    self._may_have_lost = False

    def is_ready(self) -> bool:
        """Return whether `fork` would not wait for imports, as far as that is for `fork` to wait.

        False only for a template that is about to be ready.
        """
        if self._is_ready or self._channel is None:
            return True
        if time.monotonic() - self._started_s >= READY_LIMIT_S:
            return True
        with contextlib.suppress(OSError):  # BlockingIOError, mostly
            self._channel.setblocking(False)
            said = self._channel.recv(FORK_ANSWER.size)
            self._is_ready = len(said) == FORK_ANSWER.size
            return True
        return False

    def renew(self) -> None:
        """Execute it anew: what is forked from now on has other addresses and canaries."""
        self._end()
        with contextlib.suppress(OSError, FastunError):  # the next fork tries again, and says why
            self._start()

    def replace_ended(self) -> None:
        """Start another one where it has ended by itself, or there is none: before it is needed."""
        if self._pid is None or _collected(self._pid, 0):
            self._pid = None
            self._log.warning("there is no template process; starting one")
            self.renew()

    def _start(self) -> None:
        self._pid, self._channel = self._start_one()
        self._is_ready, self._started_s = False, time.monotonic()

    def _end(self) -> None:
        """Close its channel, which ends it, and collect it; one that stays is killed."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        pid, self._pid = self._pid, None
        if pid is None:
            return
        self._ending = [each for each in self._ending if not _collected(each, 0)]
        if not _collected(pid, _END_LIMIT_S if self._is_ready else 0):
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:
                # It has its rights until it has imported; then it finds that its channel is closed.
                self._ending.append(pid)
            else:
                _collected(pid, _END_LIMIT_S)


def _collected(pid: int, limit_s: float) -> bool:
    """Return whether a child has ended, within a time, and collect it."""
    end_s = time.monotonic() + limit_s
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() >= end_s:
                return False
            time.sleep(_LOOK_INTERVAL_S)
    return True


def _answer(channel: socket.socket) -> bytes:
    """Return what comes; nothing where it cannot be read, so that no later one is taken for it."""
    try:
        return channel.recv(FORK_ANSWER.size)
    except OSError:
        return b""
