"""Where sessions on UDP live: in one lane, or each peer's in the lane of its slot.

What is said of a peer goes to its lane alone, what is said of none to all. Datagrams of a lane's
peers name an index whose low byte says which one that is: the kernel steers them by it
(fastun/host/sockets/steering.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fastun.lane.lane import Lane
    from fastun.lane.messages import ToWorker
    from fastun.native import KeyRegion, PeerTable, SendingCounter, UdpAddress

_INDEX_BITS = 32
_LOW_BYTE = 0xFF


class SessionTable(Protocol):
    """As PeerTable, as far as sessions read it."""

    def read(self, slot: int, field: str) -> int:
        """As PeerTable."""

    def endpoint(self, slot: int) -> UdpAddress | None:
        """As PeerTable."""


class SessionCounters(Protocol):
    """As SendingCounters."""

    def begin(self, slot: int, n_used: int = 0) -> SendingCounter:
        """As SendingCounters."""


class SessionLane(Protocol):
    """A lane, as far as sessions need one."""

    @property
    def peers(self) -> SessionTable:
        """What the workers have written of each peer."""

    @property
    def sending(self) -> SessionCounters:
        """The sending counters."""

    def send(self, role: str, message: ToWorker, fd: int = -1) -> None:
        """As `Lane.send`."""

    def keys_of(self, slot: int) -> KeyRegion:
        """Return where the keys of this slot's sessions are."""

    def pass_socket(self, role: str, message: ToWorker, fds: Sequence[int]) -> None:
        """Send a message with a socket: the first, or of several lanes each its own."""

    def new_index(self, slot: int) -> int | None:
        """Return an index for a session of this slot's peer; None: any will do."""


class LanesBySlot:
    """All lanes as one, each slot in its own. Event loop only, but for ``peers``."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        """Use these lanes, two at least."""
        self._lanes = tuple(lanes)
        self.peers: SessionTable = _Tables(self._lanes)
        self.sending: SessionCounters = _Counters(self._lanes)

    def send(self, role: str, message: ToWorker, fd: int = -1) -> None:
        """Send it to the worker of its slot's lane; of none, to that of each."""
        slot = getattr(message, "slot", None)
        for lane in self._lanes if slot is None else (of_slot(self._lanes, slot),):
            lane.send(role, message, fd)

    def keys_of(self, slot: int) -> KeyRegion:
        """As SessionLane."""
        return of_slot(self._lanes, slot).keys

    def pass_socket(self, role: str, message: ToWorker, fds: Sequence[int]) -> None:
        """As SessionLane."""
        for lane, fd in zip(self._lanes, fds, strict=True):
            lane.send(role, message, fd)

    def new_index(self, slot: int) -> int | None:
        """As SessionLane."""
        return index_in(of_slot(self._lanes, slot).index, len(self._lanes))


def index_in(lane: int, n_lanes: int) -> int:
    """Return a random index that the kernel steers to a lane."""
    low = lane + n_lanes * secrets.randbelow((_LOW_BYTE + 1 - lane + n_lanes - 1) // n_lanes)
    return secrets.randbits(_INDEX_BITS) & ~_LOW_BYTE | low


def of_slot(lanes: Sequence[Lane], slot: int) -> Lane:
    """Return the lane of a slot."""
    return lanes[slot % len(lanes)]


class _Tables:
    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._tables: list[PeerTable] = [lane.peers for lane in lanes]

    def read(self, slot: int, field: str) -> int:
        return self._tables[slot % len(self._tables)].read(slot, field)

    def endpoint(self, slot: int) -> UdpAddress | None:
        return self._tables[slot % len(self._tables)].endpoint(slot)


class _Counters:
    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes

    def begin(self, slot: int, n_used: int = 0) -> SendingCounter:
        return of_slot(self._lanes, slot).sending.begin(slot, n_used=n_used)
