"""``fastun drain``: a server's clients go to other gateways, and then it ends.

asked --> the gateway says how far it is --> its process has ended
`-> Ctrl-C: the drain is cancelled. Any other end of this program leaves it going.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Final

import click

from fastun.errors import RuntimeFailure
from fastun.status import control
from fastun.status.report import drained, socket_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.status.reply import DrainStatus, Status

_LOOK_S: Final = 0.5
# A gateway is gone within 15 s, whatever hangs (host/journal.py).
_END_S: Final = 20.0


def begin(interface: str | None, run_dir: Path, timeout_s: float, *, waits: bool) -> None:
    """Drain it, and print how far that is. Raises ConfigError, RuntimeFailure."""
    path = socket_of(interface, run_dir)
    status = control.drain(path, timeout_s)
    _say(path, status.drain)
    if not waits:
        return
    try:
        with _process(status) as process:
            _follow(path, status.drain, timeout_s, process)
    except KeyboardInterrupt:
        cancel(interface or path.stem, run_dir)


def cancel(interface: str | None, run_dir: Path) -> None:
    """Drain it no more. Raises ConfigError, RuntimeFailure."""
    path = socket_of(interface, run_dir)
    status = control.drain(path, None)
    n_peers = sum(peer.up for peer in status.peers)
    click.echo(f"{path.stem}: draining is cancelled; {n_peers} peers are connected")


@contextlib.contextmanager
def _process(status: Status) -> Iterator[int | None]:
    """Yield a descriptor of the gateway's process; None where it cannot be seen from here."""
    try:
        process = os.pidfd_open(status.pid)
    except OSError:
        yield None
        return
    try:
        yield process
    finally:
        os.close(process)


def _follow(path: Path, drain: DrainStatus | None, timeout_s: float, process: int | None) -> None:
    deadline_s = time.monotonic() + timeout_s + _END_S
    while time.monotonic() < deadline_s:
        if _has_ended(path, process):
            _say_ended(path, drain)
            return
        try:
            now = control.request(path, "status").drain
        except RuntimeFailure:  # it is ending
            continue
        if now is None:
            raise RuntimeFailure(f"the drain of {path.stem} was cancelled")
        if drain is None or _counts(now) != _counts(drain):
            _say(path, now)
        drain = now
    raise RuntimeFailure(f"the gateway of {path.stem} has not ended in time; see its log")


def _say_ended(path: Path, drain: DrainStatus | None) -> None:
    """Say how it ended. Raises RuntimeFailure where that was not by the drain.

    It stays for a second when all have left (draining.py), so the last look has seen that.
    """
    n_left = 0 if drain is None else drain.connected
    is_late = drain is not None and time.time() > drain.until_unix_seconds - _LOOK_S
    if n_left and not is_late:
        raise RuntimeFailure(
            f"{path.stem} has ended in the middle of its drain, with {n_left} peers connected; "
            "see its log"
        )
    cut_off = f"; {n_left} peers were connected until the end" if n_left else ""
    click.echo(f"{path.stem}: drained{cut_off}")


def _counts(drain: DrainStatus) -> tuple[int, int, int]:
    return drain.connected, drain.staying, drain.unaware


def _has_ended(path: Path, process: int | None) -> bool:
    """Wait a moment; return whether the gateway has ended."""
    if process is None:
        time.sleep(_LOOK_S)
        return not control.is_alive(path)
    gone = select.poll()
    gone.register(process, select.POLLIN)
    return bool(gone.poll(_LOOK_S * 1000))


def _say(path: Path, drain: DrainStatus | None) -> None:
    if drain is not None:
        click.echo(f"{path.stem}: {drained(drain, time.time())}")
