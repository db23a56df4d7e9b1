"""Logs the offloads that the kernel refuses for a peer.

The workers detect that and do without for a while (csrc/loop/refusals.h); nothing is lost. Refusals
are counted in fastun_refused_offloads_total.
"""

from __future__ import annotations

import time

from fastun import log
from fastun.native.loop import OffloadKind

# A peer may be able to cause refusals and successes in turn; they are logged once in this time.
QUIET_S = 600.0

_NAMES = {
    OffloadKind.TRAINS: "UDP segmentation (UDP_SEGMENT)",
    OffloadKind.TCP_GROUPS: "TCP super-packets",
    OffloadKind.UDP_GROUPS: "UDP super-packets",
}


class OffloadLog:
    """Logs each change once, and of one peer and offload no more than one pair in QUIET_S."""

    def __init__(self) -> None:
        """Begin with nothing refused."""
        self._refused_s: dict[tuple[int, int], float] = {}  # when that was logged
        self._logged: set[tuple[int, int]] = set()  # refused, as the log has it
        self._log = log.get("lane")

    def note(self, slot: int, peer: str, kind: int, error: str) -> None:
        """Take note that ``kind`` is refused because of ``error``, or taken again ("")."""
        key, now_s, name = (slot, kind), time.monotonic(), _NAMES[OffloadKind(kind)]
        if not error:
            if key in self._logged:
                self._logged.discard(key)
                self._log.info(f"the kernel accepts {name} again", peer=peer)
        elif now_s - self._refused_s.get(key, float("-inf")) >= QUIET_S:
            self._refused_s[key] = now_s
            self._logged.add(key)
            self._log.warning(
                f"the kernel refuses {name} for this peer; sending packets one by one, "
                "retrying every 20 s",
                peer=peer,
                error=error,
            )
