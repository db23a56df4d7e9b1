"""Where a capture is written to: a new file of this user's alone, or stdout."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from fastun.errors import ConfigError, RuntimeFailure


class Target:
    """A file or a pipe that is written to block by block."""

    def __init__(self, fd: int, name: str) -> None:
        """Write to ``fd``, which stays the caller's."""
        self._fd = fd
        self._name = name
        self.n_bytes = 0

    def write(self, blocks: bytes | memoryview) -> bool:
        """Write all of it; False: the reader of the pipe has gone.

        Raises RuntimeFailure where it cannot be written.
        """
        left = memoryview(blocks)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except BrokenPipeError:
            return False
        except OSError as error:
            raise RuntimeFailure(
                f"-w {self._name}: cannot be written ({error.strerror}); what was written before "
                "can be read"
            ) from None
        self.n_bytes += len(blocks)
        return True


@contextlib.contextmanager
def opened(name: str) -> Iterator[Target]:
    """Open it: "-" for stdout. ConfigError: a terminal, or a file that cannot be made."""
    if name == "-":
        if sys.stdout.isatty():
            raise ConfigError("-w: a capture is not for a terminal; give a file, or a pipe")
        yield Target(sys.stdout.fileno(), "-")
        return
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(Path(name), flags, 0o600)
    except FileExistsError:
        raise ConfigError(f"-w {name}: it exists; remove it, or give another name") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"-w {name}: cannot be made ({why}); give another name") from None
    try:
        yield Target(fd, name)
    finally:
        os.close(fd)
