"""What the log has of structlog, without rich.

Where it finds rich, structlog.dev loads it for tracebacks with local variables, which we do not
print: 3 MiB and 40 ms of a gateway.
"""

from fastun import imports

with imports.without("rich"):
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
