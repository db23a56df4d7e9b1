"""System calls of a gateway that fail for a while, and its wrong clock, by a preloaded library.

`failing_calls.c` is built once and put in front of libc in a gateway and all that it starts. Which
call of which process fails, and with what, it learns from shared memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fastun.native import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SOURCE = Path(__file__).with_suffix(".c")
_TITLES_MAX, _TITLE_BYTES, _NAME_BYTES = 32, 64, 32

#: Every call that can fail, in the order of the C file.
CALLS = tuple(
    re.findall(r"X\((\w+)\)", _SOURCE.read_text(encoding="utf-8").partition("enum call")[0])
)

#: In place of an error: the first such call does not come back, whatever happens.
NEVER_RETURNS = -1

#: What the title of a gateway contains, which has none of its own.
GATEWAY = "python"
HOST = "fastun: host"


class _Control(ctypes.Structure):
    """As `struct control`."""

    _fields_ = (
        ("is_on", ctypes.c_uint32),
        ("call", ctypes.c_uint32),
        ("error", ctypes.c_int32),
        ("every", ctypes.c_uint32),
        ("n_failed", ctypes.c_uint64),
        ("title", ctypes.c_char * _TITLE_BYTES),
        ("names", ctypes.c_char * _NAME_BYTES * len(CALLS)),
        ("n_titles", ctypes.c_uint32),
        ("titles", ctypes.c_char * _TITLE_BYTES * _TITLES_MAX),
        ("n_made", ctypes.c_uint64 * len(CALLS) * _TITLES_MAX),
        ("clock_ahead_s", ctypes.c_int64),
    )


def build(directory: Path) -> Path:
    """Return the library, compiled."""
    library = directory / "failing_calls.so"
    options = ("-O1", "-shared", "-fPIC", "-Wall", "-Werror")
    subprocess.run(("gcc", *options, "-o", library, _SOURCE, "-ldl"), check=True)
    return library


class FailingCalls:
    """The calls of one gateway and of its processes."""

    def __init__(self, library: Path, file: Path) -> None:
        """Make `file`, which is what they share."""
        file.write_bytes(bytes(ctypes.sizeof(_Control)))
        file.chmod(0o666)  # also for a process that has become another user before it reads it
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), 0)
        self._control = _Control.from_buffer(self._memory)
        self._environment = (f"LD_PRELOAD={library}", f"FAILING_CALLS={file}")

    def program(self, fastun: Sequence[str] = (sys.executable, "-m", "fastun")) -> Sequence[str]:
        """Return a command of fastun with these calls."""
        return ("env", *self._environment, *fastun)

    @property
    def n_failed(self) -> int:
        """How many have failed so far."""
        return int(self._control.n_failed)

    def made(self, title: str) -> set[str]:
        """Return the calls that processes have made whose titles contain `title`."""
        control = self._control
        return {
            name
            for place in range(min(control.n_titles, _TITLES_MAX))
            if title in control.titles[place].value.decode(errors="replace")
            for name, n_times in zip(CALLS, control.n_made[place], strict=True)
            if n_times > 0
        }

    def set_clock(self, ahead_s: int) -> None:
        """Let the wall clock of all processes be so much fast; less than 0: slow."""
        self._control.clock_ahead_s = ahead_s

    @contextlib.contextmanager
    def failing(self, title: str, call: str, error: int) -> Iterator[None]:
        """Let `call` fail with `error` in the processes whose titles contain `title`.

        A call that a signal has interrupted (EINTR) goes through when it is made again, so every
        other one does; and so does EAGAIN outside the data path, where it contradicts what the
        selector said of the descriptor, which no kernel does for long.
        """
        control = self._control
        control.title = title.encode()
        control.call = CALLS.index(call)
        control.error = error
        is_worker = title in ROLES
        control.every = (
            2 if error == errno.EINTR or (error == errno.EAGAIN and not is_worker) else 1
        )
        control.is_on = 1
        try:
            yield
        finally:
            control.is_on = 0
