"""What of sessions outlives their workers: csrc/counters.h."""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from fastun.native.library import checked, checked_pointer, ffi, lib

#: How many keys a link-reader opens with for a peer, at once.
RECEIVING_KEYS: Final = int(lib.MARKS_A_SLOT)


class CounterSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Where a session draws its counters: ``struct counter_source`` of csrc/counters.h."""

    place: int
    base: int


class SendingCounters:
    """The words from which tun-reader and gateway draw, in memory that no other worker has."""

    def __init__(self, pointer: Any, fd: int) -> None:
        """Use :meth:`create` or :meth:`attach`."""
        self.pointer = pointer
        self.fd = fd
        self._next_places: dict[int, int] = {}  # by slot

    @classmethod
    def create(cls) -> SendingCounters:
        """Make them; nothing has been drawn yet."""
        fd = ffi.new("int *")
        return cls(checked_pointer(lib.sending_counters_create(fd)), fd[0])

    @classmethod
    def attach(cls, fd: int) -> SendingCounters:
        """Map existing ones; the descriptor stays the caller's."""
        return cls(checked_pointer(lib.sending_counters_attach(fd)), -1)

    def begin(self, slot: int, n_used: int = 0) -> SendingCounter:
        """Return the counter of a new session of the slot, of which ``n_used`` have been used."""
        place = self._next_places.get(slot, 0)
        self._next_places[slot] = (place + 1) % lib.SENDING_PLACES
        drawn = int(lib.sending_counters_drawn(self.pointer, slot, place))
        return SendingCounter(self, slot, CounterSource(place, (drawn - n_used) % 2**64))

    def close(self) -> None:
        """Unmap, and close the memfd if this object made it."""
        lib.sending_counters_detach(self.pointer)
        self.pointer = ffi.NULL
        if self.fd >= 0:
            os.close(self.fd)


class SendingCounter:
    """What one session has used of its counters, which begin at 0 and are never used twice."""

    __slots__ = ("_counters", "_slot", "source")

    def __init__(self, counters: SendingCounters, slot: int, source: CounterSource) -> None:
        """Use :meth:`SendingCounters.begin`."""
        self._counters = counters
        self._slot = slot
        self.source = source

    def next(self) -> int:
        """Return the counter that is used next, by whichever process."""
        drawn = lib.sending_counters_drawn(self._counters.pointer, self._slot, self.source.place)
        return int(drawn - self.source.base) % 2**64

    def draw(self) -> int:
        """Use one."""
        before = lib.sending_counters_draw(self._counters.pointer, self._slot, self.source.place)
        return int(before - self.source.base) % 2**64


class ReplayMarks:
    """Up to where messages were accepted, in memory of the link-reader alone.

    The gateway makes it and hands it on, and does not map it.
    """

    def __init__(self, pointer: Any, fd: int) -> None:
        """Use :meth:`create` or :meth:`attach`."""
        self.pointer = pointer
        self.fd = fd

    @classmethod
    def create(cls) -> ReplayMarks:
        """Make the memory."""
        return cls(ffi.NULL, checked(lib.replay_marks_open()))

    @classmethod
    def attach(cls, fd: int) -> ReplayMarks:
        """Map it, in the link-reader; the descriptor stays the caller's."""
        return cls(checked_pointer(lib.replay_marks_attach(fd)), -1)

    def close(self) -> None:
        """Close the memfd; the gateway's end."""
        os.close(self.fd)
