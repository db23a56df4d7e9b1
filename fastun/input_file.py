"""Files that an operator names: read whole, whatever is there in their place.

A pipe is read like a file, since a shell gives one for `<(...)`. One that has no writer would hold
us up for ever, without a word.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Whoever names a pipe starts its writer as well, before or just after. A writer that is there may
# take as long as it likes: it may ask for a password first.
_FOR_A_WRITER_MS: Final = 3000

_CHUNK_BYTES: Final = 1 << 20


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Yield a descriptor for `read`, without waiting for a pipe's writer. Raises OSError.

    ValueError: the path has a NUL.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read(descriptor: int, bytes_max: int) -> bytes:
    """Return what is in the file, cut to `bytes_max`. Raises OSError."""
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    may_get_writer = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    content = bytearray()
    while len(content) < bytes_max:
        try:
            chunk = os.read(descriptor, min(_CHUNK_BYTES, bytes_max - len(content)))
        except BlockingIOError:  # a writer that has not yet written
            may_get_writer = False
            ready.poll()
            continue
        if not chunk and may_get_writer and not content:
            may_get_writer = False
            if not ready.poll(_FOR_A_WRITER_MS) and not _has_writer(descriptor, content):
                raise OSError(0, "a pipe that nothing writes to; start its writer, or name a file")
            continue
        if not chunk:
            break
        content += chunk
    return bytes(content)


def _has_writer(descriptor: int, content: bytearray) -> bool:
    """Return whether a pipe has one by now; what it has written meanwhile is added."""
    try:
        content += os.read(descriptor, 1)
    except BlockingIOError:
        return True
    return bool(content)
