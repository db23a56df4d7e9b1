"""The rings of a capture, one a worker that has something to show; how they are used is in C.

The workers produce into them, and the capturing process alone consumes (``csrc/capture.h``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.lane.messages import CaptureFrames
from fastun.native import CaptureStage, Ring

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.lane.worker_process import WorkerProcess

# The consumer looks some hundred times a second: room for 20,000 packets' headers, or 120 of the
# longest frames, each time.
RING_BYTES = 8 * 1024 * 1024

_ROLES = {
    CaptureStage.DEVICE: ("tun-reader", "tun-writer"),
    CaptureStage.SEALED: ("link-writer", "link-reader"),
    CaptureStage.OPENED: ("link-reader",),
}


class LaneCapture:
    """What is copied in a lane, and to where. Event loop only."""

    def __init__(self, stages: Iterable[CaptureStage], slot: int, snap_length: int) -> None:
        """Make the rings. OSError: there is no memory, or no descriptor."""
        wanted = frozenset(stages)
        self.slot = slot
        self._order = CaptureFrames(
            stages=sum(1 << stage for stage in wanted),
            slot=slot,
            snap_length=snap_length,
            ring_bytes=RING_BYTES,
        )
        self.rings: dict[str, Ring] = {}
        try:
            for role in dict.fromkeys(role for stage in sorted(wanted) for role in _ROLES[stage]):
                self.rings[role] = Ring.create(RING_BYTES)
        except OSError:
            self.close()
            raise

    def begin_in(self, worker: WorkerProcess) -> None:
        """Have a worker copy, if it has anything to show."""
        ring = self.rings.get(worker.role)
        if ring is not None:
            worker.send(self._order, ring.fd)

    def end_in(self, worker: WorkerProcess) -> None:
        """Have a worker copy no more."""
        if worker.role in self.rings:
            worker.send(CaptureFrames())

    def close(self) -> None:
        """Unmap and close; the workers have their own."""
        for ring in self.rings.values():
            ring.close()
        self.rings = {}
