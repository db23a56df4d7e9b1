"""One run of a hook, for whatever waits for it."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, InvalidStateError

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a hook. ``done`` gets how it has failed, empty if it has not."""

    number: int
    said: dict[str, str]  # what the log says of it: the hook, and its peer if it has one
    done: Future[str] = msgspec.field(default_factory=Future)

    def end(self, error: str) -> None:
        """Set the result, unless it is not waited for any more."""
        with contextlib.suppress(InvalidStateError):
            self.done.set_result(error)
