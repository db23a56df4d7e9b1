"""All lanes of a gateway: one for each queue of the device, alike, with rings between them.

    queue 0 --> tun-reader/0 --[ring]--> link-writer/0 --> a peer's connection
                   ^   |  crossing.py
                   |   v
    queue 1 --> tun-reader/1 --[ring]--> link-writer/1 --> another one's

A link is in one lane, and all that is known of its session is there alone. Any queue may give a
frame for any peer: its tun-reader knows by ``ways`` which lanes carry the peer, and what another
one carries crosses. What the gateway says of peers (allowed IPs, terms) all lanes hear.

All methods run on the event loop's thread; statistics and rings may be read from any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgspec import structs

from fastun import log
from fastun.errors import RuntimeFailure
from fastun.host import tun
from fastun.lane.boot import LanePlan
from fastun.lane.capture import LaneCapture
from fastun.lane.crossing import Crossings
from fastun.lane.lane import Lane, LaneOwner
from fastun.lane.messages import ToWorker
from fastun.lane.opening import Opening
from fastun.lane.session_lane import LanesBySlot, SessionLane, of_slot
from fastun.lane.template import Template
from fastun.lane.watch import LaneWatch
from fastun.lane.ways import SetWays
from fastun.lane.worker_process import WorkerProcess


class PeerTables:
    """What all lanes count by peer. Any thread, but for `clear`."""

    def __init__(self, lanes: tuple[Lane, ...]) -> None:
        """Read those of these lanes."""
        self._lanes = lanes

    def read(self, slot: int, field: str) -> int:
        """Return the sum of a field of PEER_FIELDS that counts."""
        return sum(lane.peers.read(slot, field) for lane in self._lanes)

    def latest(self, slot: int, field: str) -> int:
        """Return the latest of a field of PEER_FIELDS that is a time."""
        return max(lane.peers.read(slot, field) for lane in self._lanes)

    def clear(self, slot: int) -> None:
        """Zero a slot that is given to another peer. No worker may be writing it."""
        for lane in self._lanes:
            lane.peers.clear(slot)


class Lanes:
    """The lanes of one gateway. ``all`` has one at least, by number."""

    def __init__(
        self,
        plan: LanePlan,
        device_fds: Sequence[int],
        template: Template,
        *,
        spreads: bool = False,
    ) -> None:
        """Make one for each of ``device_fds``, the device's queues, which stay the caller's.

        ``spreads``: peers on UDP are in the lanes of their slots, else in the first.
        """
        several = len(device_fds) > 1
        self.spreads = spreads and several
        self._crossings = Crossings(len(device_fds), spreads=spreads) if several else None
        self.all = tuple(
            Lane(i, structs.replace(plan, device_fd=fd), template, self._crossings)
            for i, fd in enumerate(device_fds)
        )
        self.peers = PeerTables(self.all)
        self.udp: SessionLane = LanesBySlot(self.all) if self.spreads else self.all[0]
        self.watch = LaneWatch(self.workers(), template)
        self.opening = Opening(self.all, at_once=plan.lanes_at_once)
        self._at_once = plan.lanes_at_once
        self._closed: set[int] = set()
        self._log = log.get("lane")

    @property
    def first(self) -> Lane:
        """The lane of handshakes on UDP, and cookies."""
        return self.all[0]

    def workers(self) -> tuple[WorkerProcess, ...]:
        """Return those of all lanes. Any thread."""
        return tuple(worker for lane in self.all for worker in lane.workers.values())

    def of_stream(self, slot: int, number: int = 0) -> Lane:
        """Return the lane of the peer's connection of this number, from 0: peers are spread."""
        return self.all[(slot + number) % len(self.all)]

    def of_datagrams(self, slot: int, number: int = 0) -> Lane:
        """Return the lane of the peer's sessions on UDP; of its way of this number, from 1."""
        return of_slot(self.all, (slot if self.spreads else 0) + number)

    def start(self, owner: LaneOwner) -> None:
        """Spawn all workers and watch them on the running event loop.

        The device gives frames to the first lane only, and to others from their first peer on.
        """
        for lane in () if self._at_once else self.all[1:]:
            if tun.close_queue(lane.plan.device_fd):
                self._closed.add(lane.index)
        for lane in self.all:
            lane.start(owner)

    def open(self, lane: Lane) -> None:
        """Have the device give frames to a lane, which is about to carry a peer."""
        if lane.index not in self._closed:
            return
        self._closed.discard(lane.index)
        try:
            tun.open_queue(lane.plan.device_fd)
        except OSError as error:  # what is for it crosses to it
            self._log.warning("queue not opened", lane=lane.index, error=error.strerror)

    def send(self, role: str, message: ToWorker, fd: int = -1) -> None:
        """Send a message to the worker of this role in each lane: `Lane.send`."""
        for lane in self.all:
            lane.send(role, message, fd)

    def set_ways(self, ways: SetWays, lane: Lane | None = None) -> None:
        """Tell the tun-readers, or that of one lane, which lanes carry a peer."""
        if len(self.all) > 1:
            for each in self.all if lane is None else (lane,):
                each.send("tun-reader", ways)

    def clamp_mss(self, mtu: int) -> None:
        """Make TCP's segments fit packets of ``mtu`` bytes from now on; 0 leaves them."""
        for lane in self.all:
            lane.clamp_mss(mtu)

    def capture(self, make: Callable[[], LaneCapture] | None) -> tuple[LaneCapture, ...]:
        """Have all workers copy what these want, one a lane; None: no more. OSError: no memory.

        Those before are ended, and closed.
        """
        made: list[LaneCapture] = []
        try:
            while make is not None and len(made) < len(self.all):
                made.append(make())
        except OSError:
            for each in made:
                each.close()
            raise
        for i, lane in enumerate(self.all):
            lane.capture(made[i] if made else None)
        return tuple(made)

    async def stop(self) -> None:
        """Stop the workers, as `Lane.stop` does."""
        ended = await asyncio.gather(*(lane.stop() for lane in self.all), return_exceptions=True)
        if self._crossings is not None:
            self._crossings.close()
        failures = [each for each in ended if isinstance(each, BaseException)]
        if failures:
            raise RuntimeFailure("; ".join(map(str, failures)))
