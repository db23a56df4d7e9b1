"""Looks whether peers on UDP are still there, and does what comes of it (liveness.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastun.lane.session_lane import SessionLane
from fastun.link.datagram.address_race import endpoints_of
from fastun.link.datagram.liveness import Step
from fastun.link.datagram.path_mtu import PathWatch
from fastun.link.datagram.peer import UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.traffic_observer import TICK_S
from fastun.pace import PACE
from fastun.session import clock

#: How often a client that has other servers to go to, or is near, looks whether its own is there.
LOOK_S: Final = 0.1

#: What was sent has got no answer for so long that the peer is gone, or elsewhere: of one that
#: answers questions, and of plain WireGuard, which sends a keepalive 10 s after data.
GONE_S: Final = 5.0
PLAIN_GONE_S: Final = 15.0


class SilenceWatch:
    """That of all peers on UDP. Event loop only."""

    def __init__(
        self,
        lane: SessionLane,
        peers: UdpPeers,
        paths: PathWatch,
        doubt: Callable[[UdpPeer], None],
    ) -> None:
        """Ask by ``paths``; ``doubt`` tries the path to a peer by a handshake."""
        self._lane = lane
        self._peers = peers
        self._paths = paths
        self._doubt = doubt

    async def run(self) -> None:
        """Look for ever at peers that are in several places or near, oftener than at all."""
        while True:
            watched = [each for each in self._peers.by_slot.values() if _is_quick(each)]
            now_s = clock.boottime_s()
            for udp_peer in watched:
                if self._peers.is_carried(udp_peer):
                    udp_peer.observer.observe()
                    self.look(udp_peer, now_s)
            await PACE.next_look(LOOK_S if watched else TICK_S)

    def is_gone(self, slot: int) -> bool:
        """Return whether the peer seems to be gone, though its session may go on."""
        udp_peer = self._peers.by_slot.get(slot)
        if udp_peer is None or not self._peers.is_carried(udp_peer):
            return False
        since_s = udp_peer.timers.unanswered_since_s
        limit_s = GONE_S if udp_peer.may_be_asked() else PLAIN_GONE_S
        return since_s is not None and clock.boottime_s() - since_s >= limit_s

    def look(self, udp_peer: UdpPeer, now_s: float) -> None:
        """Look at one, of which all that workers have counted is known."""
        n_received = self._lane.peers.read(udp_peer.slotted.slot, "receive_packets")
        match udp_peer.liveness.step(
            now_s,
            udp_peer.timers.unanswered_since_s,
            n_received,
            may_ask=udp_peer.may_be_asked(),
            has_others=_has_others(udp_peer),
        ):
            case Step.ASK:
                self._paths.ask_for_life(udp_peer)
            case Step.DOUBT:
                self._doubt(udp_peer)


def _is_quick(udp_peer: UdpPeer) -> bool:
    """Return whether a silence of the peer is to be noticed sooner than by the usual looks."""
    return _has_others(udp_peer) or (udp_peer.liveness.is_near and udp_peer.may_be_asked())


def _has_others(udp_peer: UdpPeer) -> bool:
    """Return whether the peer is in other places as well."""
    return len(endpoints_of(udp_peer.slotted)) > 1
