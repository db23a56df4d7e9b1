"""Logging to stderr: one event a line, as text for a person or as JSON for a machine.

log.configure("console", verbosity=0)        once, before the first event
events = log.get("gateway")
events.info("listening", endpoint="tcp://[::]:55555")

12:03:04 info    gateway   listening  endpoint=tcp://[::]:55555

Where stderr is systemd's journal, and the format is for people, events go there with their fields
(journal.py). A gateway calls log.unblock() besides: from then on nothing that is written to
sys.stderr, events and tracebacks, makes it wait for a reader. How often one source can cause an
event is limited (limits). What there is of structlog, without rich, is in library.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import subprocess
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from fastun.errors import one_line
from fastun.log.journal import Journal
from fastun.log.library import (
    Column,
    ConsoleRenderer,
    FilteringBoundLogger,
    KeyValueColumnFormatter,
    Processor,
    structlog,
)
from fastun.log.limits import OWN_COMPONENT, LineLimits
from fastun.log.stderr import UnblockedStderr
from fastun.vocabulary import LogFormat

_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_LEVEL_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}

# The longest value of an event: a path, a hostname, a kernel's or a peer's own words.
_VALUE_CHARACTERS_MAX = 512

# How long the end of a gateway waits for a reader of its last lines, and for one that takes none.
_END_TIMEOUT_S = 1.0
_STANDSTILL_S = 0.5

_limits = LineLimits()
_unblocked: UnblockedStderr | None = None
_journals: list[Journal | None] = []  # the one behind stderr, once looked for


def configure(log_format: LogFormat, verbosity: int) -> None:
    """Send events to stderr in `log_format`: from info up, or as `verbosity` says.

    It is 0 for info, more for debug, and less, as in tests that cause many events, for errors only.
    """
    global _limits  # noqa: PLW0603 (there is one log)
    _limits = LineLimits()
    render: list[Processor]
    if log_format == "json":
        render = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(default=str),
        ]
    elif (journal := _journal()) is not None:
        render = [_ToJournal(journal)]
    else:
        render = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _console_renderer(colours=_stderr_has_colours()),
        ]
    structlog.configure(
        processors=[
            _limits,
            _cut_values,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_level(verbosity)),
        logger_factory=_Stderr,
        cache_logger_on_first_use=False,  # Modules get their logger before configure() is called.
    )
    if not any(isinstance(handler, _OfLibraries) for handler in logging.root.handlers):
        logging.root.addHandler(_OfLibraries(logging.WARNING))


def _level(verbosity: int) -> int:
    if verbosity < 0:
        return logging.ERROR
    return logging.DEBUG if verbosity else logging.INFO


def get(component: str) -> FilteringBoundLogger:
    """Return the logger of one part of the program, named in each of its events."""
    logger: FilteringBoundLogger = structlog.get_logger(component=component)
    return logger


def unblock() -> None:
    """Let nothing that this process writes to sys.stderr wait for a reader, until it exits.

    After `configure`: a terminal is asked for its colours before.
    """
    global _unblocked  # noqa: PLW0603 (there is one stderr)
    if _unblocked is not None or sys.stderr is None:
        return
    _unblocked = UnblockedStderr(sys.stderr.fileno(), _say_dropped)
    sys.stderr.flush()
    sys.stderr = io.TextIOWrapper(
        _unblocked,  # as with python -u: nothing is kept back in a buffer
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
    )
    atexit.register(end)


def stderr_of_workers() -> int | None:
    """Return what a worker is to have as its stderr, as subprocess takes it."""
    if _unblocked is not None:
        return _unblocked.fileno()
    # Where there is none, descriptor 2 may be anything that was opened since.
    return subprocess.DEVNULL if sys.stderr is None else None


def lines_dropped() -> dict[str, int]:
    """Return how many lines were not written, by reason. Any thread."""
    unread = 0 if _unblocked is None else _unblocked.n_dropped_lines
    return {"rate_limit": _limits.n_held_back, "stderr_blocked": unread}


def say_held_back(*, at_end: bool = False) -> None:
    """Log what the limits have held back for a while; call this at intervals."""
    for method, event in _limits.due(at_end=at_end):
        getattr(structlog.get_logger(), method)(**event)


def _say_dropped(n_lines: int) -> None:
    get(OWN_COMPONENT).warning("lines dropped: stderr was blocked", lines=n_lines)


def end() -> None:
    """Write the last lines, if they are read at once. At the exit it is called anyway."""
    say_held_back(at_end=True)
    if _unblocked is not None and _unblocked.end(_END_TIMEOUT_S, _STANDSTILL_S):
        sys.stderr = sys.__stderr__


class _OfLibraries(logging.Handler):
    """Makes events of what asyncio and other libraries log: in our format, within our limits."""

    def emit(self, record: logging.LogRecord) -> None:
        log = get(record.name.partition(".")[0])
        is_error = record.levelno >= logging.ERROR
        # The event is the same for all: their texts differ by a task's number or an address.
        (log.error if is_error else log.warning)(
            "library message", text=record.getMessage(), exc_info=record.exc_info
        )


class _Stderr:
    """Writes lines to whatever stderr is now; a log that is not read must not stop the tunnel."""

    def write(self, line: str) -> None:
        with suppress(AttributeError, OSError, ValueError):  # No stderr, a broken pipe, closed.
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = write


def _cut_values(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Bound a line: some values are what a peer or the kernel has said."""
    for key, value in event.items():
        if isinstance(value, str) and len(value) > _VALUE_CHARACTERS_MAX:
            event[key] = value[:_VALUE_CHARACTERS_MAX] + "..."
    return event


def _stderr_has_colours() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and "NO_COLOR" not in os.environ


def _journal() -> Journal | None:
    """Return the journal behind stderr, from the first call on: later it could not be reached."""
    if not _journals:
        _journals.append(Journal.behind_stderr())
    return _journals[0]


class _ToJournal:
    """The last processor: sends an event to the journal, or gives its line for stderr."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._render = _console_renderer(colours=False)

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        text = {key: value for key, value in event.items() if key != "level"}  # kept beside it
        line = self._render(logger, method, text)
        if self._journal.send(line, event):
            raise structlog.DropEvent
        return line


def _console_renderer(*, colours: bool) -> ConsoleRenderer:
    """Return structlog's renderer with our columns; a traceback follows below its event."""
    reset, dim = (_RESET, _DIM) if colours else ("", "")

    def column(key: str, style: str = "", width: int = 0) -> Column:
        plain = KeyValueColumnFormatter(None, style, reset, _one_line, width)
        return Column(key, plain)

    def level(key: str, value: object) -> str:
        style = _LEVEL_COLOURS.get(str(value), "") if colours else ""
        return KeyValueColumnFormatter(None, style, reset, str, len("warning"))(key, value)

    return ConsoleRenderer(
        columns=[
            column("timestamp", dim),
            Column("level", level),
            column("component", width=9),
            column("event"),
            Column("", KeyValueColumnFormatter(dim, "", reset, _detail, prefix=" ")),
        ],
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,  # the pretty one shows local variables
    )


def _one_line(value: object) -> str:
    return one_line(str(value))


def _detail(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text else repr(text)
