"""Peers on UDP that have one lane since they are held to a rate: when they are not any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.link.peer_lanes import has_one_lane

if TYPE_CHECKING:
    from fastun.link.datagram.peers import UdpPeers


class Held:
    """Those of a serving side, by slot. Event loop only."""

    def __init__(self, peers: UdpPeers) -> None:
        """Begin without any."""
        self._peers = peers
        self._slots: set[int] = set()

    def note(self, slot: int) -> None:
        """Note that a peer has one lane, if it is for its rate."""
        udp_peer = self._peers.by_slot.get(slot)
        if udp_peer is not None and has_one_lane(udp_peer.slotted.peer.terms):
            self._slots.add(slot)

    def renew(self, now_s: float) -> None:
        """Have a new session with those that may have several lanes now: its hellos say so."""
        for slot in list(self._slots):
            udp_peer = self._peers.by_slot.get(slot)
            if udp_peer is not None and has_one_lane(udp_peer.slotted.peer.terms):
                continue
            self._slots.discard(slot)
            if udp_peer is not None and self._peers.is_carried(udp_peer):
                udp_peer.timers.on_path_doubted(now_s)
