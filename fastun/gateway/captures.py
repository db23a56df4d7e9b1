"""``fastun capture`` as the gateway sees it: what is captured, and for how long.

One at a time: each costs the data path a copy of its own. The gateway makes the rings and hands
them out; the packets do not come by here.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fastun.errors import ConfigError, RuntimeFailure, quote
from fastun.lane.capture import RING_BYTES, LaneCapture
from fastun.lane.lanes import Lanes
from fastun.link.peer_slots import PeerSlots
from fastun.link.slotted_peer import SlottedPeer
from fastun.native import CAPTURE_SNAP_MAX, CaptureStage

_ALL_PEERS = -1


class Running(msgspec.Struct, frozen=True, eq=False):
    """A capture that has begun. ``fds``: its rings, of ``ring_bytes`` each, the gateway's."""

    fds: tuple[int, ...]
    ring_bytes: int
    only: SlottedPeer | None


class Captures:
    """The capture of all lanes, if there is one."""

    def __init__(self, lanes: Lanes, peer_slots: PeerSlots) -> None:
        """Begin without any."""
        self._lanes = lanes
        self._peer_slots = peer_slots
        self._running: Running | None = None

    async def begin(self, stages: Sequence[str], peer: str | None, snap_length: int) -> Running:
        """Begin to capture. Event loop only.

        Raises ConfigError for what cannot be captured, RuntimeFailure while another capture runs.
        """
        if self._running is not None:
            raise RuntimeFailure("another capture runs; end it, or wait until it has ended")
        if not 1 <= snap_length <= CAPTURE_SNAP_MAX:
            raise ConfigError(f"--snaplen {snap_length} is out of range (1 to {CAPTURE_SNAP_MAX})")
        only = None if peer is None else self._find(peer)
        wanted = [_stage(name) for name in stages]
        slot = _ALL_PEERS if only is None else only.slot
        try:
            made = self._lanes.capture(lambda: LaneCapture(wanted, slot, snap_length))
        except OSError as error:
            raise RuntimeFailure(f"no memory for a capture ({error.strerror})") from None
        fds = tuple(ring.fd for each in made for ring in each.rings.values())
        self._running = Running(fds, RING_BYTES, only)
        return self._running

    def _find(self, name: str) -> SlottedPeer:
        slots = self._peer_slots
        for slotted in slots.by_slot.values():
            if slotted.peer.name == name:
                return slotted
        if any(slotted.peer.name == name for slotted in slots.absent.values()):
            raise RuntimeFailure(f"--peer {quote(name)} is not connected; capture when it is")
        raise ConfigError(f"--peer {quote(name)}: no such peer; 'fastun status --all' lists them")

    def is_over(self, running: Running) -> bool:
        """Return whether its peer has left, so that its slot may be another's soon. Any thread."""
        only = running.only
        if running is not self._running:
            return True
        now = None if only is None else self._peer_slots.by_slot.get(only.slot)
        return only is not None and (now is None or now.peer.public_key != only.peer.public_key)

    def end(self, running: Running) -> None:
        """End it. Event loop only."""
        if running is self._running:
            self._running = None
            self._lanes.capture(None)


def _stage(name: str) -> CaptureStage:
    try:
        return CaptureStage[name.upper()]
    except KeyError:
        raise ConfigError(f"--stage {quote(name)}: no such stage") from None
