"""Starts the process of a fleet (fastun/fleet/process.py), for a gateway that has none now."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fastun.host.process.channel import Unasked

if TYPE_CHECKING:
    from fastun.config.settings import Settings

# What libpq and libc's name service go by; the rest of our environment is not theirs.
_PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE", "KRB5CCNAME", "KRB5_CONFIG")


class FleetStart:
    """Of one host process. One thread at a time."""

    def __init__(self) -> None:
        """Prepare; nothing runs."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, settings: Settings) -> tuple[int, int]:
        """Return the process ID, and the gateway's end of its channel. Raises OSError."""
        fleet = settings.fleet if settings.role == "serve" else None
        if fleet is None:
            raise Unasked("a process of a fleet that this gateway does not belong to")
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            state = str(settings.state_dir.absolute())
            arguments = [str(theirs.fileno()), state, fleet.directory, fleet.name]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-u", "-m", "fastun.fleet.process", *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
                cwd=Path("/"),
                start_new_session=True,
            )
            undo.pop_all()
        return self._process.pid, ours.detach()

    def close(self) -> None:
        """End it: of what it has not finished, nothing has happened."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith("PG")
    }
