"""What the workers get to know of further lanes of peers on UDP: links, keys, where frames go."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fastun import log
from fastun.lane.endpoint_messages import SetEndpoint
from fastun.lane.messages import ForgetReceivingKeys, SendKeepalive, SetPacketMax
from fastun.link.key_installer import KeyInstaller
from fastun.native import UdpAddress
from fastun.session import clock

if TYPE_CHECKING:
    from fastun.lane.worker_process import WorkerProcess
    from fastun.link.datagram.sockets import UdpSockets
    from fastun.link.datagram.way import PeerWays, Way, WayKeys
    from fastun.link.link import Link
    from fastun.link.local_end import LocalEnd
    from fastun.session.transport import SessionKeys


class WayLinks:
    """Those of all ways. Event loop only."""

    def __init__(self, end: LocalEnd) -> None:
        """Begin without any."""
        self._links = end.links
        self._installers = [KeyInstaller(lane, end.constants) for lane in end.links.lanes.all]
        self._log = log.get("session")

    def of(self, way: Way) -> Link | None:
        """Return the way's link while there is one; it may have ended with the others'."""
        if way.link is not None and not self._links.of_peers.carries(way.link):
            way.link, way.life.is_carrying = None, False
        return way.link

    # -- keys ---------------------------------------------------------------------------------

    def open_by(self, known: PeerWays, way: Way, agreed: WayKeys) -> None:
        """Have the link-reader open by these keys. HandshakeError: there is no place for them."""
        self._installers[way.lane.index].add_receiving(known.slot, agreed.keys, counter=0)
        self._links.note_keys_given(known.slot, way.lane)
        way.take(agreed)

    def tell_keys(self, known: PeerWays, worker: WorkerProcess) -> None:
        """Tell a fresh worker what its predecessor had of the ways in its lane."""
        for way in known.ways.values():
            if way.lane.index == worker.lane and worker.role == "link-reader":
                self._open_again(known, way)
            elif way.lane.index == worker.lane and worker.role == "tun-reader":
                self._seal_again(known, way)

    def _open_again(self, known: PeerWays, way: Way) -> None:
        """Have a fresh link-reader open by what its predecessor had."""
        for opened in way.opened.values():
            self._installers[way.lane.index].add_receiving(
                known.slot, opened.keys, counter=0, is_known=opened.is_added
            )

    def seal_by_newest(self, known: PeerWays, way: Way) -> None:
        """Seal by the keys that were agreed last, in a link that there may not have been before."""
        first = known.udp_peer.link
        if first is None:
            return
        way.used = way.newest
        if self.of(way) is None:
            way.link, way.limits = self._links.attach_beside(first, way.lane), None
        self.tell_limits(known, way)
        self._seal(known, way)
        if way.used is not None:
            self._links.of_peers.note_sealed(way.link, way.used.keys.remote_index)
        self.ask(known, way)

    def _seal_again(self, known: PeerWays, way: Way) -> None:
        """Have a fresh tun-reader, which knows the link, seal as its predecessor did."""
        if self.of(way) is not None:
            way.limits = None
            self.tell_limits(known, way)
            self._seal(known, way)

    def _seal(self, known: PeerWays, way: Way) -> None:
        if way.used is not None:
            self._installers[way.lane.index].use_for_sending(
                known.slot, way.used.keys, way.used.aead, way.used.counter
            )

    def forget_keys(self, known: PeerWays, way: Way) -> None:
        """Have the link-reader open nothing of the peer any more."""
        way.lane.send("link-reader", ForgetReceivingKeys(known.slot))

    # -- where it leads -----------------------------------------------------------------------

    def lead(
        self, known: PeerWays, way: Way, address: UdpAddress, only_by: SessionKeys | None = None
    ) -> None:
        """Send there from now on; ``only_by``: what comes under older keys is from elsewhere."""
        index = 0 if only_by is None else only_by.local_index
        way.lane.send("link-reader", SetEndpoint(known.slot, address.pack(), index))

    def follow_socket(self, known: PeerWays, way: Way, sockets: UdpSockets) -> None:
        """Lead it by another socket if its own goes, and have the peer hear of that one.

        The gateway does: the lane's workers answer where the peer sends to, the old one still.
        """
        at = way.lane.peers.endpoint(known.slot)
        if at is None or sockets.is_to_stay(at.socket_index):
            return
        with contextlib.suppress(OSError):  # none reaches it; or lost, as any datagram may be
            there = sockets.address_of(at.host, at.port, at.zone)
            self.lead(known, way, there)
            if way.used is not None:
                sockets.send(way.used.seal_empty(), there)

    def tell_limits(self, known: PeerWays, way: Way) -> None:
        """Let the path's MTU, which the session has measured, be the way's."""
        path = known.udp_peer.path
        limits = (path.packet_max, path.whole_max, path.joins_pieces)
        if path.packet_max and way.limits != limits:
            way.limits = limits
            way.lane.send("tun-reader", SetPacketMax(known.slot, *limits))

    def ask(self, known: PeerWays, way: Way) -> None:
        """Send an empty message."""
        way.lane.send("tun-reader", SendKeepalive(known.slot))

    # -- what goes by it ----------------------------------------------------------------------

    def carry(self, way: Way) -> None:
        """Have frames go by it."""
        link = self.of(way)
        if link is not None:
            way.life.begin()
            self._links.of_peers.announce(link)
            self._log.debug("a lane carries", peer=link.peer_name, lane=way.lane.index)

    def rest(self, way: Way) -> None:
        """Have nothing go by it until it is proven again."""
        link = self.of(way)
        if link is not None and way.life.is_carrying:
            way.life.rest(clock.boottime_s())
            self._links.of_peers.rest(link)
            self._log.debug("a lane rests", peer=link.peer_name, lane=way.lane.index)

    def close(self, known: PeerWays, way: Way, why: str) -> None:
        """Have no link there; what comes is still opened while its keys are young."""
        link = self.of(way)
        way.used, way.link, way.life.is_carrying = None, None, False
        if link is not None:
            self._links.end(known.slot, why, link.id)
        else:
            self._links.note_keys_left(known.slot, way.lane)
