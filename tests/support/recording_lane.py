"""A lane without workers: it keeps what they would have been given."""

from __future__ import annotations

import functools
import mmap
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from fastun.native import KeyName, KeyRegion, SendingCounters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastun.lane.messages import ToWorker


@functools.cache
def sending_counters() -> SendingCounters:
    """Return those of all such lanes: what has been drawn before is nothing to a new session."""
    return SendingCounters.create()


_ENTRY_BYTES, _ENTRY_KEY, _KEY_BYTES = 64, 8, 32  # csrc/session/key_region.h


@functools.cache
def _region() -> KeyRegion:
    """Return the one region of all lanes of a test process."""
    return KeyRegion.create(secret=False)


def key_in_region(region: KeyRegion, role: str, name: KeyName) -> bytes:
    """Return what a worker finds under a name; zeros: nothing."""
    begin = name.place * _ENTRY_BYTES
    with mmap.mmap(region.fd(role), 0, prot=mmap.PROT_READ) as area:
        entry = area[begin : begin + _ENTRY_BYTES]
    generation = int.from_bytes(entry[:_ENTRY_KEY], "little")
    found = entry[_ENTRY_KEY : _ENTRY_KEY + _KEY_BYTES]
    return found if generation == name.generation else bytes(_KEY_BYTES)


class RecordingLane:
    """`sent` has role, message and descriptor (-1 for none); `cleared` the slots zeroed."""

    def __init__(self) -> None:
        self.index = 0
        self.first = self.udp = self
        self.sent: list[tuple[str, ToWorker, int]] = []
        self.cleared: list[int] = []
        self.sending = sending_counters()
        self.peers = SimpleNamespace(clear=self.cleared.append)
        self.keys = _region()

    def worker(self, role: str) -> Any:
        """Return the lane's worker of a role, as far as one is sent messages."""

        def send(message: ToWorker, fd: int = -1) -> None:
            self.send(role, message, fd)

        return SimpleNamespace(role=role, lane=0, send=send)

    @property
    def all(self) -> tuple[RecordingLane, ...]:
        """As of the lanes of a gateway that has one."""
        return (self,)

    def of_stream(self, slot: int, number: int = 0) -> RecordingLane:
        del slot, number
        return self

    of_datagrams = of_stream
    spreads = False

    def keys_of(self, _: int) -> KeyRegion:
        return self.keys

    def pass_socket(self, role: str, message: ToWorker, fds: Sequence[int]) -> None:
        self.send(role, message, fds[0])

    def new_index(self, _: int) -> None:
        """Any will do."""

    def open(self, _: object) -> None:
        """As Lanes: there is no device."""

    def set_ways(self, *_: object) -> None:
        """Do nothing: there is one lane."""

    def send(self, role: str, message: ToWorker, fd: int = -1) -> None:
        self.sent.append((role, message, fd))

    def take(self) -> list[tuple[str, ToWorker]]:
        """Return what was sent since the last call, without the descriptors."""
        taken = [(role, message) for role, message, _ in self.sent]
        self.sent.clear()
        return taken

    def as_lane(self) -> Any:
        return self
