"""The other end of the process that runs hooks (process.py), started for the first of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastun import descriptors, log
from fastun.host.hooks.job import Job

if TYPE_CHECKING:
    from fastun.config.hooks import Command

_ANSWER_BYTES_MAX: Final = 128 << 10
_END_LIMIT_S: Final = 3.0
_KILL_LIMIT_S: Final = 1.0
_LOST: Final = "the process that runs hooks has ended or does not answer"


class HookRunner:
    """Has hooks run. Any thread; never blocks, but for the start of the process."""

    def __init__(self) -> None:
        """Prepare; nothing runs yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count()
        self._mutex = threading.Lock()
        self._log = log.get("hooks")

    @property
    def pid(self) -> int | None:
        """The process, if it was started."""
        return None if self._process is None else self._process.pid

    def begin(
        self, command: Command, environment: dict[str, str], limit_s: float, said: dict[str, str]
    ) -> Job:
        """Have a program run; its output goes to the log, with what is ``said`` of it."""
        job = Job(number=next(self._numbers), said=said)
        request = {"id": job.number, "argv": command, "env": environment, "limit_s": limit_s}
        with self._mutex:
            self._jobs[job.number] = job
            try:
                self._send(request)
            except OSError as error:
                del self._jobs[job.number]
                job.end(f"cannot be started: {error.strerror or _LOST}")
        return job

    def cancel(self, job: Job) -> None:
        """Kill it."""
        with self._mutex, contextlib.suppress(OSError):
            if job.number in self._jobs:
                self._send({"cancel": job.number})

    def give_up(self, job: Job) -> str:
        """Wait no longer for one that did not end in time; return why."""
        with self._mutex:
            self._jobs.pop(job.number, None)
        return _LOST

    def close(self) -> None:
        """End the process, which kills all that still runs."""
        with self._mutex:
            channel, self._channel = self._channel, None
            process, self._process = self._process, None
        if channel is None or process is None:
            return
        with contextlib.suppress(OSError):
            channel.shutdown(socket.SHUT_WR)
        try:
            process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # a debugger holds it
                process.wait(_KILL_LIMIT_S)
        channel.close()

    def _send(self, request: dict[str, Any]) -> None:
        if self._channel is None:
            self._channel = self._start()
        self._channel.send(json.dumps(request).encode(), socket.MSG_DONTWAIT)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            arguments = [str(theirs.fileno()), str(descriptors.files_max_before())]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "fastun.host.hooks.process", *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.defpath},
                cwd=Path("/"),
                start_new_session=True,
            )
            undo.pop_all()
        threading.Thread(target=self._read, args=(ours,), name="hooks", daemon=True).start()
        return ours

    def _read(self, channel: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := channel.recv(_ANSWER_BYTES_MAX):
                self._on_answer(json.loads(content))
        with self._mutex:
            if self._channel is not channel:  # closed by us
                jobs: list[Job] = []
            else:
                jobs, self._jobs, self._channel = list(self._jobs.values()), {}, None
        for job in jobs:
            job.end(_LOST)

    def _on_answer(self, answer: dict[str, Any]) -> None:
        with self._mutex:
            take = self._jobs.pop if "done" in answer else self._jobs.get
            job = take(answer["id"], None)
        if job is None:
            return
        for text in answer.get("lines", ()):
            self._log.info("output", **job.said, text=text)
        if "done" in answer:
            job.end(answer["done"])
