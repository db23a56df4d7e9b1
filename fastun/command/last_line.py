"""The last line of a command that failed: what went wrong, and its exit code."""

import errno
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

from fastun.command import streams
from fastun.errors import FastunError

_LAST_LINE_LIMIT_S = 1.0

# What to do where the system does not say which file it is, and it is all the same.
_LIMITS = {
    errno.EMFILE: "; raise the limit of open files (ulimit -n, LimitNOFILE= of the service)",
    errno.ENFILE: "; raise fs.file-max, or end other programs",
    errno.EFBIG: "; raise the limit of a file's size (ulimit -f, LimitFSIZE= of the service)",
}

# Commands that go on until they are stopped; what `bench` is to print it misses itself.
_UNTIL_STOPPED = ("serve", "connect", "top", "capture", "drain", "bench")


class Stopped(SystemExit):
    """A signal has asked to stop."""


def stop(*_: object) -> NoReturn:
    """Ask to stop: a signal's handler."""
    raise Stopped(0)


def interrupted(arguments: Sequence[str]) -> tuple[int, str]:
    """Return the exit code and the line of a command that was asked to stop.

    Most have not done their work then, and a script must not go on as if they had.
    """
    if arguments[:1] and arguments[0] in _UNTIL_STOPPED and "--check" not in arguments:
        return 0, ""
    return 1, "interrupted before it was done; run it again"


def say_last(line: str, exit_code: int) -> None:
    """Print the last line. An unread stderr must not keep the process from ending."""

    def say() -> None:
        with suppress(OSError, ValueError):
            click.echo(line, err=True)

    saying = threading.Thread(target=say, daemon=True)
    try:
        saying.start()
    except RuntimeError:  # no thread to be had, which may be what there is to say
        say()
        return
    saying.join(_LAST_LINE_LIMIT_S)
    if saying.is_alive():
        os._exit(exit_code)


def explain(error: Exception) -> tuple[int, str]:
    """Return the exit code of `error`, and the line that reports it."""
    match error:
        case FastunError():
            return error.exit_code, str(error)
        case click.NoSuchOption() if error.option_name[1:2].isdigit():
            return error.exit_code, f"{error.option_name}...: no value may begin with '-'"
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "fastun"
            message = " ".join(error.format_message().split())
            return error.exit_code, f"{message} (see '{command} --help')"
        case click.ClickException():
            return error.exit_code, error.format_message()
        case OSError():
            is_of_stdout = error.filename == streams.STDOUT
            return 1, streams.complaint(error) if is_of_stdout else of_the_system(error)
    return 1, _refused(error) or (
        f"internal error: {type(error).__name__}: {error}; FASTUN_DEBUG=1 shows where"
    )


def _refused(error: Exception) -> str:
    """Return the line for what this host does not give a process; empty for other errors."""
    if isinstance(error, MemoryError):
        return "this host has no memory left; end other programs, or raise the limit (ulimit -v)"
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return (
            "this host lets fastun start no thread: raise the limit of processes (ulimit -u,"
            " TasksMax= of the service) or of memory"
        )
    return ""


def of_the_system(error: OSError) -> str:
    """Return the system's complaint without its number, with the file it is about."""
    message = error.strerror or str(error) or type(error).__name__
    message += _LIMITS.get(error.errno or 0, "")
    return f"{error.filename}: {message}" if error.filename else message
