"""What the log has of structlog, without rich.

Where it finds rich, structlog.dev loads it for tracebacks with local variables, which we do not
print: 3 MiB and 40 ms of a gateway. Its parts for Python's own log are 0.3 MiB more.
"""

from fastun import imports

with (
    imports.without("rich"),
    imports.standing_in("structlog.stdlib", "structlog.threadlocal", "structlog.tracebacks"),
):
    import structlog
    from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter
    from structlog.typing import FilteringBoundLogger, Processor

__all__ = [
    "Column",
    "ConsoleRenderer",
    "FilteringBoundLogger",
    "KeyValueColumnFormatter",
    "Processor",
    "structlog",
]
