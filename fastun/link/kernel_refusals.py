"""Says what the kernel refuses for a peer: offloads, and datagrams.

The workers notice (csrc/loop/refusals.h). Without an offload they go on more slowly, and nothing is
lost; it is counted in fastun_refused_offloads_total. Datagrams are lost: dropped as ``not_sent`` or
``no_route``.
"""

from __future__ import annotations

import errno
import os
import time
from typing import Final

from fastun import log
from fastun.native.loop import RefusalKind

# A peer may be able to cause refusals and successes in turn; they are logged once in this time.
QUIET_S: Final = 600.0

_NAMES: Final = {
    RefusalKind.TRAINS: "UDP segmentation (UDP_SEGMENT)",
    RefusalKind.TCP_GROUPS: "TCP super-packets",
    RefusalKind.UDP_GROUPS: "UDP super-packets",
    RefusalKind.DATAGRAMS: "datagrams",
}

_NO_ROUTE: Final = (os.strerror(errno.ENETUNREACH), os.strerror(errno.EHOSTUNREACH))


class KernelRefusals:
    """Logs each change once, and of one peer and kind no more than one pair in QUIET_S."""

    def __init__(self) -> None:
        """Begin with nothing refused."""
        self._refused_s: dict[tuple[int, int], float] = {}  # when that was logged
        self._logged: set[tuple[int, int]] = set()  # refused, as the log has it
        self._log = log.get("lane")

    def note(self, slot: int, peer: str, kind: RefusalKind, error: str) -> None:
        """Take note that ``kind`` is refused because of ``error``, or taken again ("")."""
        key, now_s, name = (slot, kind), time.monotonic(), _NAMES[kind]
        if not error:
            if key in self._logged:
                self._logged.discard(key)
                self._log.info(f"the kernel accepts {name} again", peer=peer)
        elif now_s - self._refused_s.get(key, float("-inf")) >= QUIET_S:
            self._refused_s[key] = now_s
            self._logged.add(key)
            self._warn(peer, kind, error)

    def _warn(self, peer: str, kind: RefusalKind, error: str) -> None:
        if kind == RefusalKind.DATAGRAMS:
            cause = (
                "this host has no route to its address: see 'ip route get'"
                if error in _NO_ROUTE
                else "most often because of a firewall rule of this host: see 'nft list ruleset',"
                " output"
            )
            self._log.warning(
                f"the kernel refuses datagrams to this peer, and they are lost; {cause}",
                peer=peer,
                error=error,
            )
        else:
            self._log.warning(
                f"the kernel refuses {_NAMES[kind]} for this peer; sending packets one by one, "
                "retrying every 20 s",
                peer=peer,
                error=error,
            )
