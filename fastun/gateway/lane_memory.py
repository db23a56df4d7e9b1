"""What a view has of a lane: its shared memory, mapped once more, and its workers.

In the threads of the callers, as viewer.py says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.gateway.view import Histogram, LaneView, RingView, WorkerView
from fastun.gateway.worker_state import Backpressure, state_of
from fastun.native import CALLS, COUNTERS, DIRECTIONS, ROLES, PeerTable, Ring, Stats

if TYPE_CHECKING:
    from fastun.lane.lane import Lane
    from fastun.lane.watch import LaneWatch


class LaneMemory:
    """That of one lane. Any thread; whoever closes it sees to it that none reads it."""

    def __init__(self, lane: Lane, watch: LaneWatch) -> None:
        """Map it: the lane unmaps its own when it stops."""
        self._lane, self._watch = lane, watch
        self._stats = Stats.attach(lane.stats.fd, ())
        self.peers = PeerTable.attach(lane.peers.fd, ())
        self._rings = {
            direction: Ring.attach(ring.fd, ring.size_bytes)
            for direction, ring in lane.rings.items()
        }

    def close(self) -> None:
        """Unmap."""
        self._stats.close()
        self.peers.close()
        for ring in self._rings.values():
            ring.close()

    def view(self, around: Backpressure) -> LaneView:
        """Return the lane as it is now."""
        rings = {
            direction: RingView(ring.used_bytes(), ring.size_bytes)
            for direction, ring in self._rings.items()
        }
        drops: dict[str, dict[str, int]] = {role: {} for role in ROLES}
        for drop, n_packets in self._stats.drops():
            drops[drop.role][drop.reason] = n_packets
        return LaneView(
            index=self._lane.index,
            waiting=self._lane.plan.waiting,
            rings=rings,
            workers={
                role: self._worker(role, rings[DIRECTIONS[role]], drops[role], around)
                for role in ROLES
            },
        )

    def _worker(
        self, role: str, ring: RingView, drops: dict[str, int], around: Backpressure
    ) -> WorkerView:
        worker, stats = self._lane.workers[role], self._stats
        counts, n_frames = stats.batch_frames(role)
        delays, sum_ns = stats.queue_delay(role)
        return WorkerView(
            role=role,
            direction=DIRECTIONS[role],
            pid=worker.pid,
            is_ready=worker.is_ready,
            state=state_of(role, ring.used_bytes, ring.capacity_bytes, around),
            restarts=worker.restarts,
            cpu_seconds=worker.cpu_seconds(),
            counters={name: stats.counter(role, name) for name in COUNTERS},
            calls={call: stats.calls(role, call) for call in CALLS},
            drops=drops,
            batch_frames=Histogram(_powers_of_2(counts, 1), counts, n_frames),
            queue_delay=Histogram(_powers_of_2(delays, 1e6), delays, sum_ns / 1e9),
            confined=worker.confined,
            forbidden_calls=dict(worker.forbidden_calls),
            unresponsive=self._watch.ended_of(worker.name),
        )


def _powers_of_2(counts: list[int], divisor: float) -> list[float]:
    """Return the upper bounds of the buckets but the last, which has none."""
    return [2**i / divisor for i in range(len(counts) - 1)]
