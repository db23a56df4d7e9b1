"""Logging to stderr: one event a line, as text for a person or as JSON for a machine.

log.configure("console", verbosity=0)        once, before the first event
events = log.get("gateway")
events.info("listening", endpoint="tcp://[::]:55555")

12:03:04 info    gateway   listening  endpoint=tcp://[::]:55555
"""

import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, Literal

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from fastun.errors import one_line

_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_LEVEL_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}


def configure(log_format: Literal["console", "json"], verbosity: int) -> None:
    """Send events to stderr in `log_format`; `verbosity` 0 from info up, 1 and more from debug."""
    render: list[Processor]
    if log_format == "json":
        render = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        render = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _console_renderer(colours=_stderr_has_colours()),
        ]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if verbosity else logging.INFO
        ),
        logger_factory=_Stderr,
        cache_logger_on_first_use=False,  # Modules get their logger before configure() is called.
    )


def get(component: str) -> FilteringBoundLogger:
    """Return the logger of one part of the program, named in each of its events."""
    logger: FilteringBoundLogger = structlog.get_logger(component=component)
    return logger


class _Stderr:
    """Writes lines to whatever stderr is now; a log that nobody reads must not stop the tunnel."""

    def write(self, line: str) -> None:
        with suppress(AttributeError, OSError, ValueError):  # No stderr, a broken pipe, closed.
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = write


def _stderr_has_colours() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and "NO_COLOR" not in os.environ


def _console_renderer(*, colours: bool) -> Callable[[Any, str, MutableMapping[str, Any]], str]:
    def paint(text: str, colour: str) -> str:
        return f"{colour}{text}{_RESET}" if colours and colour else text

    def render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        time, level = event.pop("timestamp"), event.pop("level")
        component, what = event.pop("component", ""), event.pop("event")
        traceback = event.pop("exception", "")
        details = "".join(
            f"  {paint(key + '=', _DIM)}{_detail(value)}" for key, value in event.items()
        )
        line = (
            f"{paint(time, _DIM)} {paint(f'{level:<7}', _LEVEL_COLOURS.get(level, ''))}"
            f" {component:<9} {one_line(str(what))}{details}"
        )
        return f"{line}\n{traceback}" if traceback else line

    return render


def _detail(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text else repr(text)
