"""Rings between the tun-readers of several lanes: frames for peers that another lane carries.

One for each pair of lanes and direction, so that each has one producer and one consumer; what is in
them outlives both. ``csrc/outbound/crossing.h`` says what crosses.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from fastun import native
from fastun.lane.messages import Boot
from fastun.native import Ring

# Some seven of the longest frames. What answers come to does not cross, so most are hardly used,
# and what is not used takes no memory.
RING_BYTES: Final = 512 * 1024


class Crossings:
    """Those of all lanes; made before the first worker. Event loop only."""

    def __init__(self, n_lanes: int, *, spreads: bool = False) -> None:
        """Make them; of one lane there are none.

        ``spreads``: a peer that no lane carries is for the lane of its slot, else for the first.
        """
        self.n_lanes, self.spreads = n_lanes, spreads
        lanes = range(n_lanes)
        self._rings = {
            (giver, taker): Ring.create(RING_BYTES)
            for giver in lanes
            for taker in lanes
            if giver != taker
        }
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
        self._wake_fds = [os.eventfd(0, flags) for _ in lanes] if n_lanes > 1 else []

    def descriptors(self, lane: int) -> tuple[int, ...]:
        """Return what the tun-reader of a lane gets, in the order of `attach`."""
        others = [each for each in range(self.n_lanes) if each != lane]
        return (
            *(self._rings[other, lane].fd for other in others),
            *(self._rings[lane, other].fd for other in others),
            *self._wake_fds,
        )

    def wake_others(self, lane: int) -> None:
        """Have the others look: the tun-reader of a lane may have died before it woke them."""
        for other, wake_fd in enumerate(self._wake_fds):
            if other != lane:
                os.eventfd_write(wake_fd, 1)

    def close(self) -> None:
        """Unmap and close, after the workers have ended."""
        for ring in self._rings.values():
            ring.close()
        for wake_fd in self._wake_fds:
            os.close(wake_fd)


def n_of(boot: Boot) -> int:
    """Return how many descriptors of `Crossings.descriptors` come with a boot message."""
    _, n_lanes, _ = boot.lanes
    return 3 * n_lanes - 2 if n_lanes > 1 else 0


def of_rings(boot: Boot, fds: Sequence[int]) -> Sequence[int]:
    """Return those of them that may be closed once they are mapped: all but the eventfds."""
    return fds[: 2 * (boot.lanes[1] - 1)]


def attach(boot: Boot, fds: Sequence[int]) -> native.Crossing | None:
    """Map what these are descriptors of."""
    if not fds:
        return None
    lane, n_lanes, spreads = boot.lanes
    n_others = n_lanes - 1
    rings = [Ring.attach(fd, RING_BYTES) for fd in of_rings(boot, fds)]
    return native.Crossing(
        lane,
        _by_lane(lane, rings[:n_others]),
        _by_lane(lane, rings[n_others:]),
        tuple(fds[2 * n_others :]),
        spreads,
    )


def _by_lane(own: int, rings: Sequence[Ring]) -> tuple[Ring | None, ...]:
    return (*rings[:own], None, *rings[own:])
