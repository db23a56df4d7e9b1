"""What a fresh worker hears of peers on UDP, so that it goes on where its predecessor was killed.

Sessions outlive their workers: the keys are still in the lane's region, a tun-reader's successor
draws on from the same counters, and a link-reader's opens what is above the marks that were left
(and nothing by a key that was opened with and has left no mark). Handshakes that wait for a
link-reader go on when its successor says that it has the keys.
"""

from __future__ import annotations

from fastun.lane.messages import AwaitReply, SetGateKeys, SetPacketMax
from fastun.lane.worker_process import WorkerProcess
from fastun.link.datagram.peer import UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.socket_passing import SocketPassing
from fastun.link.key_installer import KeyInstaller
from fastun.link.local_end import LocalEnd
from fastun.session import cookies


class FreshWorkers:
    """Tells them, before their first packet. Event loop only."""

    def __init__(
        self, end: LocalEnd, peers: UdpPeers, passing: SocketPassing, installer: KeyInstaller
    ) -> None:
        """Tell of ``peers`` and of the sockets that are passed on."""
        self._lane = end.lane
        self._lanes = end.links.lanes
        self._public = end.exchange.own.public
        self._peers = peers
        self._passing = passing
        self._installer = installer

    def _of(self, worker: WorkerProcess) -> list[UdpPeer]:
        """Return the peers whose sessions are in the worker's lane."""
        lanes = self._lanes
        return [
            udp_peer
            for slot, udp_peer in self._peers.by_slot.items()
            if lanes.of_datagrams(slot).index == worker.lane
        ]

    def tell(self, worker: WorkerProcess) -> None:
        """Tell of the sockets and where the peers are."""
        self._passing.sockets.tell_worker(worker)
        if worker.role != "link-reader":
            return
        if worker.lane == 0 or self._lanes.spreads:  # else no handshake comes by its sockets
            mac1_key, cookie_key = cookies.mac1_key(self._public), cookies.cookie_key(self._public)
            worker.send(SetGateKeys(mac1_key, cookie_key))
        for udp_peer in self._peers.by_slot.values() if worker.lane == 0 else ():
            if udp_peer.initiator is not None:
                slot, index = udp_peer.slotted.slot, udp_peer.initiator.local_index
                worker.send(AwaitReply(slot, index))
        for udp_peer in self._of(worker):
            self._peers.follow(udp_peer)  # to where its predecessor heard it last
            self._peers.send_endpoint(udp_peer)

    def tell_keys(self, worker: WorkerProcess) -> None:
        """Tell of the sessions, when it knows the links."""
        for udp_peer in self._of(worker):
            if worker.role == "link-reader":
                self._tell_receiving(udp_peer)
            elif worker.role == "tun-reader" and self._peers.is_carried(udp_peer):
                self._tell_sending(udp_peer)

    def _tell_receiving(self, udp_peer: UdpPeer) -> None:
        for opened in udp_peer.opened:
            self._installer.add_receiving(
                udp_peer.slotted.slot, opened.keys, counter=0, is_known=opened.is_added
            )

    def _tell_sending(self, udp_peer: UdpPeer) -> None:
        slot, path = udp_peer.slotted.slot, udp_peer.path
        if path.packet_max:
            limits = (path.packet_max, path.whole_max, path.joins_pieces)
            self._lane.send("tun-reader", SetPacketMax(slot, *limits))
        keys, counter = udp_peer.current, udp_peer.hello.counter
        if keys is not None and counter is not None:
            self._installer.use_for_sending(slot, keys, udp_peer.hello.aead, counter)
