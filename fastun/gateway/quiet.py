"""Says when a tunnel is quiet, so that the gateway looks less often at what nothing reports.

Quiet is: no frame and no new link for some seconds, nothing sent that waits for an answer, and no
attempt to reach a peer. The next frame of the device ends it at once: while it is quiet the event
loop waits for that, too. What comes from a peer is seen by the next look, and so is most of what
its timers ask for; when the first of them is due, `left_s` says.
"""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from fastun.pace import PACE, QUIET_S
from fastun.session import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.host.process.gateway_device import GatewayDevice
    from fastun.lane.lanes import Lanes
    from fastun.link.datagram.sessions import DatagramSessions
    from fastun.link.outside import Outside
    from fastun.link.stream.sessions import StreamSessions
    from fastun.link.table import LinkTable
    from fastun.session.timers import PeerTimers

#: After the last frame. A path that is dead is doubted long before.
AFTER_S: Final = 5.0

_MOVING: Final = ("tun-reader", "tun-writer")


class Tunnel(Protocol):
    """The gateway, as far as something can move in it."""

    device: GatewayDevice
    lanes: Lanes
    links: LinkTable
    outside: Outside
    sessions: StreamSessions | None
    datagrams: DatagramSessions | None


class Quiet:
    """Of one gateway. Event loop only."""

    def __init__(self, tunnel: Tunnel) -> None:
        """Begin awake."""
        self._tunnel = tunnel
        self._seen: tuple[int, ...] = ()
        self._moved_s = clock.boottime_s()

    def look(self) -> None:
        """Begin the quiet, or end it."""
        now_s = clock.boottime_s()
        counted = self._counted()
        if counted != self._seen:
            self._seen, self._moved_s = counted, now_s
        is_quiet = now_s - self._moved_s >= AFTER_S and not self._waits()
        if is_quiet and not PACE.is_quiet:
            PACE.is_quiet = True
            self._tunnel.device.set_quiet(is_quiet=True)
            for fd in self._tunnel.device.fds:
                asyncio.get_running_loop().add_reader(fd, self.end)
        elif not is_quiet:
            self.end()

    def end(self) -> None:
        """End it: a frame has come, or the gateway ends."""
        if PACE.is_quiet:
            for fd in self._tunnel.device.fds:
                asyncio.get_running_loop().remove_reader(fd)
            self._moved_s = clock.boottime_s()
            PACE.end_quiet()
            self._tunnel.device.set_quiet(is_quiet=False)

    def left_s(self) -> float:
        """Return for how long no timer of a peer is due."""
        now_s = clock.boottime_s()
        deadlines = (timers.next_deadline() for timers in self._timers())
        left_s = (deadline - now_s for deadline in deadlines if deadline is not None)
        return max(0.0, min(left_s, default=QUIET_S))

    def _counted(self) -> tuple[int, ...]:
        lanes, links = self._tunnel.lanes.all, self._tunnel.links
        moved = (lane.stats.counter(role, "frames") for lane in lanes for role in _MOVING)
        return links.n_established, *moved

    def _waits(self) -> bool:
        return self._tunnel.outside.attempts.are_made() or any(
            timers.unanswered_since_s is not None or timers.is_trying() for timers in self._timers()
        )

    def _timers(self) -> Iterator[PeerTimers]:
        streams, datagrams = self._tunnel.sessions, self._tunnel.datagrams
        return chain(
            () if streams is None else streams.timers(),
            () if datagrams is None else datagrams.timers(),
        )
