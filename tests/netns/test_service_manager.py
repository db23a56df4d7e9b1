"""What a gateway tells the service manager that has started it, over a socket of its protocol."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.tunnel import FASTUN

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.network import Lab

# Beside four others that start a tunnel.
LIMIT_S = 15.0


class Heard:
    """The datagrams that came, in order."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(LIMIT_S)
        self.lines: list[str] = []
        self.pending: list[str] = []

    def wait_for(self, begun: str) -> str:
        """Return the next line that begins so. TimeoutError."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            while self.pending:
                self.lines.append(text := self.pending.pop(0))
                if text.startswith(begun):
                    return text
            self.pending = self.socket.recv(4096).decode().splitlines()
        raise TimeoutError(f"no {begun}, but {self.lines}")


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Heard]:
    made = Heard(tmp_path / "notify")
    with made.socket:
        yield made


def serve(lab: Lab, directory: Path, watchdog_us: int) -> subprocess.Popen[bytes]:
    manager = {"NOTIFY_SOCKET": str(directory / "notify"), "WATCHDOG_USEC": str(watchdog_us)}
    where = ("--state", str(directory), "--run-dir", str(directory), "--metrics", "off")
    return lab.host("server").spawn(*FASTUN, "serve", *where, env=os.environ | manager)


def silent(heard: Heard) -> bool:
    """Return whether nothing comes any more, after what was on its way."""
    with contextlib.suppress(TimeoutError):
        for _ in range(3):
            heard.wait_for("WATCHDOG=1")
        return False
    return True


def test_it_is_ready_lives_reloads_and_stops(lab: Lab, tmp_path: Path, heard: Heard) -> None:
    gateway = serve(lab, tmp_path, 3_000_000)
    heard.wait_for("READY=1")
    assert heard.lines == ["READY=1"]  # nothing before, and no worker is missing any more
    assert heard.wait_for("WATCHDOG=1")
    assert heard.wait_for("STATUS=") == "STATUS=0 peers connected"
    gateway.send_signal(signal.SIGHUP)
    heard.wait_for("RELOADING=1")
    assert heard.wait_for("MONOTONIC_USEC=").partition("=")[2].isdecimal()
    heard.wait_for("READY=1")
    gateway.terminate()
    heard.wait_for("STOPPING=1")
    assert gateway.wait(10) == 0
    assert not [line for line in heard.lines if "not at work" in line]


def test_a_stopped_gateway_feeds_no_watchdog(lab: Lab, tmp_path: Path, heard: Heard) -> None:
    gateway = serve(lab, tmp_path, 900_000)
    heard.wait_for("WATCHDOG=1")
    heard.wait_for("WATCHDOG=1")
    gateway.send_signal(signal.SIGSTOP)
    heard.socket.settimeout(1.5)
    assert silent(heard)
    gateway.send_signal(signal.SIGCONT)
    heard.wait_for("WATCHDOG=1")
