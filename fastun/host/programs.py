"""Programs of the host (resolvconf, resolvectl, nft), run so that none can block fastun.

Each runs in a session of its own: a terminal's Ctrl-C, which is for fastun, does not reach it. It
has a time limit, after which its whole process group is killed. Its streams are files in memory:
with a pipe we would wait for any daemon that it starts and leaves behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from fastun import ending
from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOK_EVERY_S = 0.02
_OUTPUT_BYTES_MAX = 1 << 20
_SBIN = ("/usr/sbin", "/sbin")
_KILL_GRACE_S = 1.0


class ProgramRefused(RuntimeFailure):
    """A program is missing, or ended with a failure of its own."""


class ProgramKilled(RuntimeFailure):
    """We killed a program: what it had done by then is unknown."""


def find(name: str) -> str | None:
    """Return where a program is, None when it is missing. sbin is not on every PATH."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN)))


def run(command: Sequence[str], stdin: str = "", *, limit_s: float, is_undo: bool = False) -> str:
    """Run a program to its end; return what it printed. Raises ProgramRefused, or ProgramKilled.

    Unless it ``is_undo``, it is killed as soon as fastun is asked to stop.
    """
    name = command[0]
    with (
        os.fdopen(os.memfd_create("stdin"), "w+b") as given,
        os.fdopen(os.memfd_create("output"), "w+b") as output,
    ):
        given.write(stdin.encode())
        given.seek(0)
        try:
            found = [find(name) or name, *command[1:]]
            process = subprocess.Popen(
                found, stdin=given, stdout=output, stderr=output, start_new_session=True, cwd="/"
            )
        except OSError as error:
            raise ProgramRefused(f"{name}: {error.strerror}") from None
        why_killed = _wait(process, limit_s, may_be_cut=not is_undo)
        if why_killed:
            raise ProgramKilled(f"{name}: {why_killed}")
        output.seek(0)
        printed = output.read(_OUTPUT_BYTES_MAX).decode(errors="replace")
        if process.returncode != 0:
            lines = printed.strip().splitlines()
            why = lines[-1] if lines else f"exit code {process.returncode}"
            raise ProgramRefused(f"{name}: {why}")
        return printed


def _wait(process: subprocess.Popen[bytes], limit_s: float, *, may_be_cut: bool) -> str:
    """Wait for the end of a program, or kill its group; return why, empty for its own end."""
    deadline = time.monotonic() + limit_s
    while process.poll() is None:
        is_cut = may_be_cut and ending.is_asked()
        if is_cut or time.monotonic() >= deadline:
            _kill(process)
            return (
                "stopped, because fastun is stopping"
                if is_cut
                else f"not finished within {limit_s:.3g} s"
            )
        time.sleep(_LOOK_EVERY_S)
    return ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_GRACE_S)
