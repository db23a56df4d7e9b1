"""The one peer of a TAP device on the wireguard wire: whichever connects first.

Ethernet frames do not identify a peer, so a TAP device carries one link. Any permitted peer can
have it; while it is up others are refused, on TCP and UDP alike. The data path sends the device's
frames to the link that was attached last (``last_slot`` in csrc/outbound/tun_reader.h).
"""

from __future__ import annotations

import time
from typing import Literal

from fastun import log
from fastun.link.peer_slots import SlottedPeer
from fastun.link.table import LinkTable
from fastun.session.refusal import HandshakeError, Refusal

# One that is refused tries again every few seconds.
WARNING_INTERVAL_S = 60.0


class TapPlace:
    """Decides which peers may connect now. Event loop only."""

    def __init__(self, mode: Literal["tun", "tap"], links: LinkTable) -> None:
        """Look at ``links`` where ``mode`` is tap; a TUN device has room for all."""
        self._is_tap = mode == "tap"
        self._links = links
        self._warned_s = float("-inf")
        self._log = log.get("link")

    def check(self, slotted: SlottedPeer) -> None:
        """Raise HandshakeError TAP_IN_USE where another peer is connected."""
        others = [link for link in self._links.by_slot.values() if link.slot != slotted.slot]
        if not self._is_tap or not others:
            return
        now_s = time.monotonic()
        if now_s - self._warned_s >= WARNING_INTERVAL_S:
            self._warned_s = now_s
            self._log.warning(
                "refused: the TAP device takes one peer, and another is connected",
                peer=slotted.peer.name,
                connected=others[0].peer_name,
            )
        raise HandshakeError(Refusal.TAP_IN_USE)
