"""The typed wall around csrc/lanes.h: rings between the tun-readers of several lanes."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fastun.native.library import ffi, lib
from fastun.native.shared import Ring

LANES_MAX: Final[int] = lib.LANES_MAX


class Crossing(msgspec.Struct, frozen=True):
    """What the tun-reader of a lane has of them, each by the other lane's number; its own: None.

    ``wake_fds`` are eventfds, one a lane, its own among them; they stay the caller's.
    """

    lane: int
    incoming: tuple[Ring | None, ...]
    outgoing: tuple[Ring | None, ...]
    wake_fds: tuple[int, ...]
    spreads: bool = False

    def native(self) -> Any:
        """Return it as the C library takes it; the rings must be kept."""
        ends = ffi.new("struct lane_crossing *")
        ends.lane, ends.n_lanes, ends.spreads = self.lane, len(self.wake_fds), self.spreads
        for i, wake_fd in enumerate(self.wake_fds):
            ends.wake_fds[i] = wake_fd
            incoming, outgoing = self.incoming[i], self.outgoing[i]
            if incoming is not None and outgoing is not None:
                ends.incoming[i], ends.outgoing[i] = incoming.pointer, outgoing.pointer
        return ends
