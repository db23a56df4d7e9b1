"""Stdin, stdout and stderr, however the caller has left them: closed, full, or without a reader.

A number from 0 to 2 that is closed would be given to the next file or socket that is opened, here
or in a process that is started, and what is meant for a reader or a log would end up in that. So it
is taken, by what cannot be read or written: a command that needs it fails, and the others go on.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from fastun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# The name in errors of stdout.
STDOUT: Final = "stdout"

# What is there instead fails where it is used, as a closed one does. But a log without a reader,
# which is all that stderr has, ends nothing.
_INSTEAD: Final = ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY))


def prepare() -> None:
    """Have all three. Before anything else is opened."""
    for number, flags in _INSTEAD:
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, flags)
            if null == number:
                os.set_inheritable(number, True)
            else:
                os.dup2(null, number)
                os.close(null)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (for as long as the process)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 (as stdin)
    if sys.stdout is None:
        sys.stdout = _Stdout(open(1, "wb", closefd=False))  # noqa: SIM115 (as stdin)
    elif isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        sys.stdout = _instead_of(sys.stdout)


class _Stdout(io.TextIOWrapper):
    """Stdout, whose errors say that they are its."""

    def write(self, text: str, /) -> int:
        with _named():
            return super().write(text)

    def writelines(self, lines: Iterable[Any], /) -> None:
        with _named():
            super().writelines(lines)

    def flush(self) -> None:
        with _named():
            super().flush()


def _instead_of(stdout: io.TextIOWrapper) -> _Stdout:
    """Return the same stdout; it may be unbuffered.

    In a locale that has no sign for a letter it is escaped: no reason to fail.
    """
    has_all_letters = codecs.lookup(stdout.encoding).name == "utf-8"
    errors = stdout.errors if has_all_letters else "backslashreplace"
    encoding, is_line_buffered = stdout.encoding, stdout.line_buffering
    is_unbuffered = stdout.write_through
    return _Stdout(
        stdout.detach(),
        encoding=encoding,
        errors=errors,
        line_buffering=is_line_buffered,
        write_through=is_unbuffered,
    )


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = STDOUT
        raise


def finish() -> OSError | None:
    """Write what stdout still holds; return why it cannot be, and then hold it no more.

    Python would try it at the exit, with a traceback.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
        return error
    except ValueError:  # closed
        pass
    return None


def why(error: OSError) -> str:
    """Return in words why one of them cannot be used."""
    return "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)


def complaint(error: OSError) -> str:
    """Return the line for an error of stdout; empty where the reader has just gone."""
    if isinstance(error, BrokenPipeError):
        return ""
    return f"{STDOUT}: {why(error)}; give a file or a pipe that can be written to"


def read(bytes_max: int) -> bytes:
    """Return what is on stdin, up to so much. Raises ConfigError where it cannot be read."""
    try:
        return sys.stdin.buffer.read(bytes_max)
    except OSError as error:
        raise ConfigError(f"stdin: {why(error)}; give a file or a pipe to read") from None
