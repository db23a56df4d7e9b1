"""`fastun top` on a terminal of 80 columns and 24 rows; the topology stands in tests/conftest.py.

The terminal is a real one, a pty, with an emulator at its other end that says what a person sees.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING

import pyte
import pytest

from fastun.lab.tunnel import INTERFACE, add_peer
from tests.support.processes import worker_pid
from tests.support.stall import slowed
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.lab.tunnel import GatewayProcess, Tunnel
    from tests.conftest import StartTunnel

COLUMNS, ROWS = 80, 24
HIDE_CURSOR, LEAVE_SCREEN = b"\x1b[?25l", b"\x1b[?1049l"


class Terminal:
    """A program on a pty, and what its screen shows."""

    def __init__(self, *command: str, columns: int = COLUMNS, rows: int = ROWS) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.written = b""
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.modes_before = termios.tcgetattr(theirs)
        self._theirs = theirs
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment | {"TERM": "xterm-256color"},
        )

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def line(self, start: str) -> str:
        return next((line for line in self.lines() if line.strip().startswith(start)), "")

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def wait_until(self, shows: Callable[[], bool], what: str, timeout_s: float = 15.0) -> None:
        until_s = time.monotonic() + timeout_s
        while not shows():
            assert time.monotonic() < until_s, "\n".join([f"no {what}:", *self.lines()])
            self._read(0.1)

    def wait_end(self, timeout_s: float = 5.0) -> int:
        until_s = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < until_s, "\n".join(["goes on:", *self.lines()])
            self._read(0.05)
        self._read(0.1)
        return self.process.returncode

    def modes(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

    def _read(self, timeout_s: float) -> None:
        while select.select([self._ours], [], [], timeout_s)[0]:
            read = os.read(self._ours, 65536)
            self.written += read
            self._stream.feed(read)
            timeout_s = 0


def command(gateway: GatewayProcess, *arguments: str) -> list[str]:
    run_dir = str(gateway.log_file.parent)
    return [sys.executable, "-m", "fastun", "top", "--run-dir", run_dir, *arguments]


@contextlib.contextmanager
def top(gateway: GatewayProcess, *arguments: str) -> Iterator[Terminal]:
    terminal = Terminal(*command(gateway, *arguments))
    try:
        yield terminal
    finally:
        terminal.close()


@contextlib.contextmanager
def load(pair: Tunnel) -> Iterator[None]:
    """Let the client send as much as goes through."""
    ends = threading.Event()
    transfer = start_transfer(
        pair.client.host,
        pair.server.host,
        pair.server.inner_address,
        n_bytes=1,
        goes_on=lambda: not ends.is_set(),
    )
    try:
        yield
    finally:
        ends.set()
        transfer.result(timeout=30)


def packets_per_second(terminal: Terminal, role: str) -> int:
    cells = terminal.line(f"{role} ").split()
    return int(cells[1].replace(",", "")) if len(cells) > 1 else 0


def ends_cleanly(terminal: Terminal) -> None:
    """The person's screen is back as it was, with a cursor, and keys are echoed again."""
    assert LEAVE_SCREEN in terminal.written
    assert not terminal.screen.cursor.hidden
    assert terminal.modes() == terminal.modes_before


def test_a_loaded_tunnel_is_seen_at_80_by_24(tunnel: StartTunnel) -> None:
    pair = tunnel()
    with load(pair), top(pair.client) as terminal:
        terminal.wait_until(lambda: packets_per_second(terminal, "link-writer") > 5000, "load")
        assert HIDE_CURSOR in terminal.written
        lines = terminal.lines()
        assert lines[0].startswith(f"{INTERFACE}  connect, tun, wireguard wire, up ")
        assert lines[0].endswith("  fastun 0.1.0")
        assert len(lines[0]) == COLUMNS
        assert lines[1].startswith("bottleneck  ")
        stages = [line.split()[0] for line in lines[3:11]]
        assert stages == [
            *("outbound", "tun-reader", "ring", "link-writer"),
            *("inbound", "link-reader", "ring", "tun-writer"),
        ]
        assert len(terminal.line("tun-reader").split()) == 12, "no cell is cut or runs together"
        assert "bit" in terminal.line("tun-reader")
        assert terminal.line("ring").endswith("% of 1 MiB")
        heading, peer = _peers(lines)
        assert heading.split()[:5] == ["peers,", "1", "of", "1", "connected"]
        assert heading.split()[5:] == ["received", "sent", "handshake", "dropped"]
        assert peer.split()[:3] == ["server", "tcp", "10.0.0.1:55555"]
        assert peer.split()[6] in ("Mbit", "Gbit")
        terminal.press(b"q")
        assert terminal.wait_end() == 0
        ends_cleanly(terminal)


def _peers(lines: list[str]) -> list[str]:
    first = next(i for i, line in enumerate(lines) if line.startswith("peers, "))
    return lines[first : first + 2]


def test_a_slow_worker_is_named_as_the_bottleneck(tunnel: StartTunnel) -> None:
    pair = tunnel()
    with load(pair), top(pair.client) as terminal, slowed(worker_pid(pair.client, "link-writer")):
        terminal.wait_until(
            lambda: terminal.line("bottleneck").startswith("bottleneck  link-writer, "),
            "bottleneck",
        )
        assert terminal.line("bottleneck").endswith(": the ring before it fills")
        terminal.press(b"\x03")  # Ctrl-C
        assert terminal.wait_end() == 0
        ends_cleanly(terminal)


def test_many_peers_leave_none_of_the_stages_out(tunnel: StartTunnel) -> None:
    pair = tunnel()
    for number in range(20):
        add_peer(pair.server, f"branch{number}", "10.0.0.1")
    with top(pair.server) as terminal:
        terminal.wait_until(lambda: "1 of 21 connected" in terminal.line("peers,"), "all peers")
        terminal.wait_until(lambda: "more" in terminal.lines()[-1], "the frame's last line")
        lines = terminal.lines()
        n_shown = sum(line.startswith(("client ", "branch")) for line in lines)
        assert lines[-1] == f"... and {21 - n_shown} more, 0 connected"
        assert _peers(lines)[1].startswith("client "), "who is connected comes first"
        terminal.resize(100, 40)
        terminal.wait_until(lambda: "branch9" in "\n".join(terminal.lines()), "a larger screen")
        assert not terminal.line("...")
        terminal.press(b"xQ")
        assert terminal.wait_end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_gateway_is_one_line(tunnel: StartTunnel, number: signal.Signals) -> None:
    pair = tunnel()
    with top(pair.server) as terminal:
        terminal.wait_until(lambda: bool(terminal.line("tun-writer")), "a frame")
        pair.server.stop(number)
        assert terminal.wait_end() == 1
        ends_cleanly(terminal)
        said = terminal.written.rpartition(LEAVE_SCREEN)[2].replace(b"\x1b[?25h", b"")
        assert said.strip().decode() == f"fastun: the gateway of {INTERFACE} has stopped"


def test_in_a_pipe_frames_are_plain_text(tunnel: StartTunnel) -> None:
    pair = tunnel()
    with load(pair):
        done = subprocess.run(
            command(pair.server, "--count", "2", "--interval", "0.5"),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "COLUMNS": str(COLUMNS)},
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    assert sum(line.startswith(f"{INTERFACE}  serve, ") for line in lines) == 2
    rates = [line.split()[1] for line in lines if line.startswith("  tun-writer")]
    assert len(rates) == 2
    assert all(int(rate.replace(",", "")) > 1000 for rate in rates)
