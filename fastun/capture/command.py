"""One capture, from the first packet to the line that says how many there were."""

from __future__ import annotations

import contextlib
import os
import platform
import select
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from fastun import __version__
from fastun.capture import pcapng
from fastun.capture.target import Target, opened
from fastun.errors import RuntimeFailure
from fastun.native import CAPTURE_HEADERS_MAX, CaptureStage
from fastun.native.capture import CaptureReader, layout
from fastun.status import control
from fastun.status.control import CaptureBegun, CaptureWanted
from fastun.status.report import socket_of

# How long packets wait in the rings: 8 MiB each, for 1.6 GB a second.
_LOOK_S = 0.005

# What comes faster than it can be written does not keep a capture from its end.
_DRAIN_S = 0.2

# What is asked for at once, so that time and size are looked at now and then.
_PACKETS_MAX = 4096

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

_DESCRIPTIONS: Final = {
    CaptureStage.DEVICE: "frames read from and written to the device",
    CaptureStage.SEALED: "messages on the link, behind made-up headers of IP and UDP",
    CaptureStage.OPENED: "frames that came out of messages, before they are checked",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a capture ends. ``n_packets``: None for any number."""

    n_packets: int | None
    seconds: float
    n_bytes: int


def run(
    interface: str | None,
    run_dir: Path,
    target: str,
    wanted: CaptureWanted,
    limits: Limits,
) -> None:
    """Capture until a limit, a signal, or the end of either side. Raises FastunError."""
    path = socket_of(interface, run_dir)
    with contextlib.ExitStack() as stack:
        is_asked = stack.enter_context(_asked())
        out = stack.enter_context(_opened_last(target))
        connection, begun, fds = control.capture(path, wanted)
        stack.callback(connection.close)
        stages = [CaptureStage[name.upper()] for name in dict.fromkeys(wanted.stages)]
        reader = _reader(path.stem, begun, fds, stages)
        stack.callback(reader.close)
        capture = _Capture(connection, reader, out, limits, is_asked)
        began_ns = time.time_ns()
        try:
            if out.write(_beginning(path.stem, begun, stages, wanted.snap_length)):
                why = capture.run()
                out.write(_statistics(reader, stages, began_ns))
            else:
                why = "the reader of the pipe has gone"
        finally:
            _say(reader, stages)
        if why:
            click.echo(f"fastun: {why}", err=True)


@contextlib.contextmanager
def _opened_last(target: str) -> Iterator[Target]:
    """Open the target; a file that nothing was written to is not left behind."""
    with opened(target) as out:
        try:
            yield out
        finally:
            if out.n_bytes == 0 and target != "-":
                Path(target).unlink(missing_ok=True)


@contextlib.contextmanager
def _asked() -> Iterator[list[int]]:
    """Yield a list that has something once this process is asked to stop.

    The second signal ends it at once: a reader that does not read may hold it up.
    """
    asked: list[int] = []

    def note(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reader(
    interface: str, begun: CaptureBegun, fds: list[int], stages: Sequence[CaptureStage]
) -> CaptureReader:
    if begun.layout != layout():
        for fd in fds:
            os.close(fd)
        raise RuntimeFailure(
            f"the gateway of {interface} runs another version; restart it to capture"
        )
    try:
        numbers = {stage: number for number, stage in enumerate(stages)}
        return CaptureReader(fds, begun.ring_bytes, numbers)
    except OSError as error:
        raise RuntimeFailure(f"no memory for a capture ({error.strerror})") from None


class _Capture:
    """What runs until something ends it."""

    def __init__(
        self,
        connection: socket.socket,
        reader: CaptureReader,
        out: Target,
        limits: Limits,
        asked: list[int],
    ) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._reader = reader
        self._out = out
        self._limits = limits
        self._asked = asked
        self._until = time.monotonic() + limits.seconds
        self._n_left = limits.n_packets

    def run(self) -> str:
        """Return why it ended, empty for what was asked for."""
        while True:
            is_over = self._is_over()
            is_asked = bool(self._asked) or time.monotonic() >= self._until
            why = self._drain()  # what was there before that, too
            if why is not None:
                return why
            if is_over:
                return "the gateway has stopped, or the peer was removed"
            if is_asked:
                return ""
            select.select([self._connection], [], [], _LOOK_S)

    def _drain(self) -> str | None:
        """Write all that is there; return why it is to end, None if it is not."""
        until = time.monotonic() + _DRAIN_S
        n_bytes = 1
        while n_bytes > 0 and time.monotonic() < until:
            n_bytes = self._take()
            if n_bytes < 0:
                return "the reader of the pipe has gone"
            if self._n_left == 0:
                return ""
            if self._out.n_bytes >= self._limits.n_bytes:
                return "--size is reached"
        return None

    def _take(self) -> int:
        """Write what is there; return how many bytes, -1 if they could not be written."""
        most = _PACKETS_MAX if self._n_left is None else min(_PACKETS_MAX, self._n_left)
        before = self._n_packets() if self._n_left is not None else 0
        try:
            blocks = self._reader.read(most)
        except OSError as error:
            raise RuntimeFailure(f"the capture was damaged ({error.strerror})") from None
        if self._n_left is not None:
            self._n_left -= self._n_packets() - before
        return len(blocks) if not blocks or self._out.write(blocks) else -1

    def _n_packets(self) -> int:
        return sum(self._reader.n_packets(stage) for stage in CaptureStage)

    def _is_over(self) -> bool:
        try:
            return self._connection.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def _beginning(
    interface: str, begun: CaptureBegun, stages: Sequence[CaptureStage], snap_length: int
) -> bytes:
    system = f"{platform.system()} {platform.release()}"
    blocks = pcapng.section_header(f"fastun {__version__}", system)
    inner = pcapng.LINKTYPE_ETHERNET if begun.mode == "tap" else pcapng.LINKTYPE_RAW
    for stage in stages:
        is_sealed = stage is CaptureStage.SEALED
        link_type = pcapng.LINKTYPE_RAW if is_sealed else inner
        # libpcap takes no packet that is longer than this.
        longest = snap_length + (CAPTURE_HEADERS_MAX if is_sealed else 0)
        name = f"{interface}-{stage.name.lower()}"
        blocks += pcapng.interface(link_type, longest, name, _DESCRIPTIONS[stage])
    return blocks


def _statistics(reader: CaptureReader, stages: Sequence[CaptureStage], began_ns: int) -> bytes:
    now_ns, blocks = time.time_ns(), b""
    for number, stage in enumerate(stages):
        n_written, n_lost = reader.n_packets(stage), reader.n_lost(stage)
        blocks += pcapng.statistics(
            number, began_ns, now_ns, n_received=n_written + n_lost, n_dropped=n_lost
        )
    return blocks


def _say(reader: CaptureReader, stages: Sequence[CaptureStage]) -> None:
    for stage in stages:
        n_lost = reader.n_lost(stage)
        lost = f", {n_lost} lost: the capture was too slow for them" if n_lost else ""
        click.echo(
            f"fastun: {stage.name.lower()}: {reader.n_packets(stage)} captured{lost}", err=True
        )
