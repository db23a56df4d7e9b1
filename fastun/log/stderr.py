"""A stderr that never blocks its writers: what is not read is dropped and counted.

    gateway  --.
               +--> pipe of our own --> thread --> stderr: a terminal, a pipe, a file, journald
    workers  --'    (never waits)                  (may wait for as long as it likes)

stderr itself must not be made non-blocking: the flag belongs to the open file description, which a
terminal shares with the shell, and a pipe with every program that writes to it. So the flag is set
on a pipe that is ours alone, and only a thread waits for the real stderr. The pipe holds 64 KiB,
several hundred lines; its capacity is the bound on memory. Descriptor 2 is unchanged: messages of a
crash in C, which no thread could pass on any more, still go there.
"""

from __future__ import annotations

import io
import os
import select
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

# pipe(7): writes up to this size are atomic. Linux's value; the minimum of POSIX is 512.
_WHOLE_BYTES = 4096

_READ_BYTES = 64 * 1024

# At the end there may be no room yet to say what was dropped.
_LOOK_INTERVAL_S = 0.01


class UnblockedStderr(io.RawIOBase):
    """The writing side. Any thread may write, also from a signal handler; nothing is raised."""

    def __init__(self, target_fd: int, say_dropped: Callable[[int], None]) -> None:
        """Pass everything on to `target_fd`, which stays the caller's.

        `say_dropped(n)` is called when lines have been dropped and writing works again; it is to
        write a line that says so here.
        """
        self.n_dropped_lines = 0
        self._target_fd = target_fd
        self._say_dropped = say_dropped
        self._n_unsaid = 0
        self._n_passed = 0  # bytes that the target took
        self._is_failing = False  # the target refuses what it is given: nothing can be said
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._lock = threading.RLock()  # for the order of lines and for the counts; never held long
        self._thread = threading.Thread(target=self._pass_on, name="log", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor that a process of ours can have as its stderr."""
        return self._writer

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Take all of `data`, or drop it and count its lines."""
        whole = bytes(data)
        with self._lock:
            if not self._catch_up() or not self._put(whole):
                self._count(whole)
        return len(whole)

    def end(self, timeout_s: float, standstill_s: float) -> bool:
        """Wait until the target has taken what was written; whether it did so in time.

        Not longer than ``timeout_s``, nor when it has taken nothing for ``standstill_s``.
        """
        now_s = time.monotonic()
        end_s, n_passed, still_until_s = now_s + timeout_s, self._n_passed, now_s + standstill_s
        while self._thread.is_alive() and now_s < min(end_s, still_until_s):
            with self._lock:
                if self._writer >= 0 and self._catch_up():
                    os.close(self._writer)
                    self._writer = -1
            self._thread.join(_LOOK_INTERVAL_S)
            now_s = time.monotonic()
            if n_passed != self._n_passed:
                n_passed, still_until_s = self._n_passed, now_s + standstill_s
        return not self._thread.is_alive()

    def _put(self, data: bytes) -> bool:
        """Put all of it into the pipe. What is longer than a page may lose its end."""
        try:
            for start in range(0, len(data), _WHOLE_BYTES):
                os.write(self._writer, data[start : start + _WHOLE_BYTES])
        except OSError:  # full; or ended
            return False
        return True

    def _count(self, data: bytes) -> None:
        n_lines = data.count(b"\n")
        self.n_dropped_lines += n_lines
        self._n_unsaid += n_lines

    def _catch_up(self) -> bool:
        """Report dropped lines at the place where they were; False while there is no room."""
        if not self._n_unsaid or self._is_failing:
            return True
        if not _has_room(self._writer):
            return False
        n_lines, self._n_unsaid = self._n_unsaid, 0
        self._say_dropped(n_lines)  # writes here again
        if self._n_unsaid:  # a worker has taken the room
            self._n_unsaid += n_lines
        return not self._n_unsaid

    # -- the thread ---------------------------------------------------------------------------

    def _pass_on(self) -> None:
        while data := os.read(self._reader, _READ_BYTES):
            is_written = self._write_all(data)
            with self._lock:
                self._is_failing = not is_written
                if is_written:
                    self._catch_up()
                else:
                    self._count(data)

    def _write_all(self, data: bytes) -> bool:
        """Write for as long as it takes; False where the target refuses (EPIPE, ENOSPC).

        Whole lines at once, as far as a pipe takes them so: others may write to it as well.
        """
        rest = data
        while rest:
            piece = rest[: rest.rfind(b"\n", 0, _WHOLE_BYTES) + 1 or _WHOLE_BYTES]
            try:
                n_written = os.write(self._target_fd, piece)
            except BlockingIOError:  # another program has made it non-blocking
                poll = select.poll()
                poll.register(self._target_fd, select.POLLOUT)
                poll.poll()
            except OSError:
                return False
            else:
                self._n_passed += n_written
                rest = rest[n_written:]
        return True


def _has_room(fd: int) -> bool:
    """Return whether a pipe takes a page at once: that is when it polls writable."""
    if fd < 0:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in poll.poll(0))
