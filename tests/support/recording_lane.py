"""A lane without workers: it keeps what they would have been given."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from fastun.native import SendingCounters

if TYPE_CHECKING:
    from fastun.lane.lane import Lane
    from fastun.lane.messages import ToWorker


@functools.cache
def sending_counters() -> SendingCounters:
    """Return those of all such lanes: what has been drawn before is nothing to a new session."""
    return SendingCounters.create()


class RecordingLane:
    """`sent` has role, message and descriptor (-1 for none); `cleared` the slots zeroed."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, ToWorker, int]] = []
        self.cleared: list[int] = []
        self.sending = sending_counters()
        self.peers = SimpleNamespace(clear=self.cleared.append)

    def send(self, role: str, message: ToWorker, fd: int = -1) -> None:
        self.sent.append((role, message, fd))

    def take(self) -> list[tuple[str, ToWorker]]:
        """Return what was sent since the last call, without the descriptors."""
        taken = [(role, message) for role, message, _ in self.sent]
        self.sent.clear()
        return taken

    def as_lane(self) -> Lane:
        return cast("Lane", self)
