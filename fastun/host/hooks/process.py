"""The process that runs hooks: ``python -I -m fastun.host.hooks.process CHANNEL_FD FILES_MAX``.

    host process --request: id, argv, env, limit_s | cancel: id--> hook process --> hooks
                 <--lines: id, texts | done: id, error------------

Hooks are children of this process and not of the host process, so they have nothing of that: its
descriptors, limits, or the signals that it handles. Whatever they start and leave behind
becomes a child of this process as well (PR_SET_CHILD_SUBREAPER), and is killed when the channel
closes: at the end of the host process, whatever ended it.

Each request has a thread. A hook has a session, and so a process group, of its own; that is killed
when the time is up.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import setproctitle

REQUEST_BYTES_MAX: Final = 128 << 10

_SUBREAPER: Final = 36  # linux/prctl.h: PR_SET_CHILD_SUBREAPER

# What is shown of one hook's output; the rest is read, so that the hook goes on, and counted.
LINES_MAX: Final = 50
LINE_BYTES_MAX: Final = 400
_READ_BYTES: Final = 16 << 10

# The end of a hook that was killed. One that hangs in the kernel is left to it.
_KILL_GRACE_S: Final = 1.0
_END_LIMIT_S: Final = 2.0

Show = Callable[[list[str]], None]

# A service manager may signal all processes of a service; stopping is the gateway's decision.
# Handled and not ignored: a hook would inherit that.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)


class Lines:
    """The lines of what a hook prints, cut to a length; none after the first LINES_MAX."""

    def __init__(self) -> None:
        """Begin."""
        self._rest = b""
        self._is_cut = False  # the line in `_rest` has been given, its end is to come
        self._n = 0

    def add(self, content: bytes) -> list[str]:
        """Return the lines that are complete, or longer than is shown."""
        parts = (self._rest + content).split(b"\n")
        self._rest = parts.pop()
        lines = []
        for part in parts:
            if not self._is_cut:
                lines.append(part)
            self._is_cut = False
        if len(self._rest) > LINE_BYTES_MAX:
            if not self._is_cut:
                lines.append(self._rest)
            self._rest, self._is_cut = b"", True
        return self._shown(lines)

    def end(self) -> list[str]:
        """Return the last line, if it had no end; and how many were not shown."""
        lines = self._shown([self._rest] if self._rest and not self._is_cut else [])
        more = self._n - LINES_MAX
        return [*lines, f"({more} more lines)"] if more > 0 else lines

    def _shown(self, lines: list[bytes]) -> list[str]:
        room = max(0, LINES_MAX - self._n)
        self._n += len(lines)
        texts = (line[:LINE_BYTES_MAX].decode(errors="replace").rstrip() for line in lines[:room])
        return [text for text in texts if text]


class Hook:
    """One hook that runs."""

    def __init__(self, request: dict[str, Any]) -> None:
        """Start it. Raises OSError, ValueError."""
        self._limit_s = float(request["limit_s"])
        self._process = subprocess.Popen(
            request["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=request["env"],
            cwd=Path("/"),
            start_new_session=True,
        )
        self._why_killed = ""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def kill(self, why: str) -> None:
        """Kill its process group."""
        if self._process.returncode is None:
            self._why_killed = self._why_killed or why
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, show: Show) -> str:
        """Give its output to ``show``; return how it has failed, empty if it has not."""
        assert self._process.stdout is not None  # noqa: S101 (PIPE above)
        lines, limit_s = Lines(), self._limit_s
        with self._process.stdout as output:
            os.set_blocking(output.fileno(), False)
            if not self._read(output.fileno(), lines, show, time.monotonic() + limit_s):
                self.kill(f"not finished within {limit_s:g} s, killed")
                self._read(output.fileno(), lines, show, time.monotonic() + _KILL_GRACE_S)
        show(lines.end())
        code = self._process.poll()
        if self._why_killed:
            return self._why_killed
        if code is None:
            return "cannot be killed, left behind"
        if code < 0:
            return f"ended by signal {_signal_name(-code)}"
        return f"exit status {code}" if code else ""

    def _read(self, output: int, lines: Lines, show: Show, until_s: float) -> bool:
        """Read until the hook has ended; return False when the time is up.

        What it leaves running may hold the other end of the pipe: that is not waited for.
        """
        ended = os.pidfd_open(self._process.pid)
        try:
            poller = select.poll()
            poller.register(ended, select.POLLIN)
            poller.register(output, select.POLLIN)
            while (rest_s := until_s - time.monotonic()) > 0:
                ready = {fd for fd, _ in poller.poll(rest_s * 1000)}
                if ended in ready:
                    while content := _read_some(output):
                        show(lines.add(content))
                        if time.monotonic() >= until_s:
                            break
                    self._process.wait()
                    return True
                if output in ready:
                    content = _read_some(output)
                    show(lines.add(content or b""))
                    if content == b"":  # closed by all
                        poller.unregister(output)
        finally:
            os.close(ended)
        return False


def _read_some(output: int) -> bytes | None:
    try:
        return os.read(output, _READ_BYTES)
    except BlockingIOError:
        return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)


class HookProcess:
    """Serves the channel until the gateway closes it."""

    def __init__(self, channel: socket.socket) -> None:
        """Answer on ``channel``, whose messages are JSON."""
        self._channel = channel
        self._running: dict[int, Hook] = {}
        self._mutex = threading.Lock()

    def serve(self) -> None:
        """Start what is asked for, until the channel is closed."""
        while content := self._channel.recv(REQUEST_BYTES_MAX):
            request = json.loads(content)
            if "cancel" in request:
                with self._mutex:
                    hook = self._running.get(request["cancel"])
                if hook is not None:
                    hook.kill("stopped, because fastun is stopping")
            else:
                threading.Thread(target=self._run, args=(request,), daemon=True).start()

    def _run(self, request: dict[str, Any]) -> None:
        number = request["id"]
        try:
            with self._mutex:  # lest `reap` takes one that was just started
                hook = self._running[number] = Hook(request)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self._answer(id=number, done=f"cannot be started: {why}")
            return
        try:
            failure = hook.wait(lambda lines: self._show(number, lines))
        except OSError as error:  # no descriptor is left
            hook.kill("")
            failure = f"cannot be waited for, killed: {error.strerror}"
        with self._mutex:
            del self._running[number]
            reap(but={each.pid for each in self._running.values()})
        self._answer(id=number, done=failure)

    def _show(self, number: int, lines: list[str]) -> None:
        if lines:
            self._answer(id=number, lines=lines)

    def _answer(self, **fields: Any) -> None:
        with contextlib.suppress(OSError):  # the gateway is gone
            self._channel.send(json.dumps(fields).encode())


def children() -> set[int]:
    """Return the children of this process, also those that have ended and were not waited for."""
    found: set[int] = set()
    for listed in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found.update(map(int, listed.read_text().split()))
    return found


def reap(but: set[int]) -> None:
    """Forget children that have ended, which hooks have left; not those that a thread waits for."""
    for pid in children() - but:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def kill_all() -> None:
    """Kill the children, and theirs, which become ours, until there are none."""
    until_s = time.monotonic() + _END_LIMIT_S
    while (pids := children()) and time.monotonic() < until_s:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def main() -> None:
    """Run hooks until the gateway closes the channel or dies."""
    channel_fd, files_max = int(sys.argv[1]), int(sys.argv[2])
    setproctitle.setproctitle("fastun: hooks")
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, hard))
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        with socket.socket(fileno=channel_fd) as channel, contextlib.suppress(ConnectionError):
            HookProcess(channel).serve()
    finally:
        kill_all()


if __name__ == "__main__":
    main()
