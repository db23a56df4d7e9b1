"""``fastun top``: a running gateway at work, on a terminal of 80 columns, until q or Ctrl-C.

    control socket --snapshot, four a second--> History --a frame an interval--> terminal

The gateway answers what ``fastun status`` asks as well; what is a difference is worked out here. On
no terminal, or with a count, frames are plain text one after the other.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, Group

from fastun.errors import RuntimeFailure
from fastun.status import control
from fastun.status.report import socket_of
from fastun.top.frame import frame
from fastun.top.rates import History, Snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from rich.text import Text

# A worker's state is that of an instant: several snapshots a frame make a share of time of it.
LOOK_S = 0.25

# A gateway that is too busy to answer, or has all its clients, is asked again so often.
_TRIES = 8

_QUIT = b"qQ"


class Watch:
    """The gateway whose socket this is, from the first snapshot on."""

    def __init__(self, path: Path) -> None:
        """Take the first snapshot. Raises RuntimeFailure where no gateway answers."""
        self._path = path
        self._name = path.name.removesuffix(".sock")
        self.history = History(_snapshot(path))

    def snapshot(self) -> None:
        """Take a snapshot. Raises RuntimeFailure in one line when the gateway has ended."""
        for tries_left in reversed(range(_TRIES)):
            try:
                snapshot = _snapshot(self._path)
            except RuntimeFailure:
                if not self._is_alive():
                    raise RuntimeFailure(f"the gateway of {self._name} has stopped") from None
                if not tries_left:
                    raise
                time.sleep(LOOK_S)
            else:
                break
        if snapshot.status.pid != self.history.latest.status.pid:
            raise RuntimeFailure(f"the gateway of {self._name} was replaced by another; run again")
        self.history.add(snapshot)

    def _is_alive(self) -> bool:
        try:
            return control.is_alive(self._path)
        except OSError:
            return False


def _snapshot(path: Path) -> Snapshot:
    status = control.request(path, "status")
    return Snapshot(time.monotonic(), status)


def run(interface: str | None, run_dir: Path, interval_s: float, n_frames: int | None) -> None:
    """Show the gateway of ``interface``, or the only one, until stopped or ``n_frames`` are shown.

    Raises RuntimeFailure when there is none, or it ends.
    """
    watch = Watch(socket_of(interface, run_dir))
    console = Console(highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        if console.is_terminal and not console.is_dumb_terminal and n_frames is None:
            _show_live(watch, console, interval_s)
        else:
            _print_frames(watch, console, interval_s, n_frames)


# -- plain ------------------------------------------------------------------------------------


def _print_frames(watch: Watch, console: Console, interval_s: float, n_frames: int | None) -> None:
    shown = 0
    while n_frames is None or shown < n_frames:
        until_s = time.monotonic() + interval_s
        while (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, LOOK_S))
            watch.snapshot()
        lines = frame(watch.history, console.width, None, time.time())
        watch.history.mark_shown()
        sys.stdout.write("\n" * (shown > 0))
        sys.stdout.writelines(f"{line.plain.rstrip()}\n" for line in lines)
        sys.stdout.flush()
        shown += 1


# -- live -------------------------------------------------------------------------------------


def _show_live(watch: Watch, console: Console, interval_s: float) -> None:
    with _keys() as keys, console.screen(hide_cursor=True) as screen:
        lines: list[Text] = []
        next_s, size = 0.0, console.size  # the first frame as soon as there are rates
        while not _quits(keys, min(LOOK_S, interval_s)):
            watch.snapshot()
            if time.monotonic() >= next_s or console.size != size:
                next_s, size = time.monotonic() + interval_s - LOOK_S / 2, console.size
                lines = frame(watch.history, size.width, size.height, time.time())
                watch.history.mark_shown()
                screen.update(Group(*lines))


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """Read single keys from the terminal meanwhile; yield its descriptor, None without one."""
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        changed = termios.tcgetattr(descriptor)
        # Stopped by Ctrl-Z it would leave its screen to the shell.
        changed[6][termios.VSUSP] = os.fpathconf(descriptor, "PC_VDISABLE").to_bytes(1, "big")
        termios.tcsetattr(descriptor, termios.TCSANOW, changed)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _quits(keys: int | None, timeout_s: float) -> bool:
    """Wait for a key; return whether it asks to stop. A terminal that is gone does, too."""
    if keys is None:
        time.sleep(timeout_s)
        return False
    until_s = time.monotonic() + timeout_s
    while (left_s := until_s - time.monotonic()) > 0:
        readable, _, _ = select.select([keys], [], [], left_s)
        if readable and _asks_to_quit(keys):
            return True
    return False


def _asks_to_quit(keys: int) -> bool:
    try:
        pressed = os.read(keys, 64)
    except OSError:
        return True
    return not pressed or any(key in _QUIT for key in pressed)
