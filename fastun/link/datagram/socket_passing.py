"""UDP sockets on their way to the workers and back, while these run or when one is replaced."""

from __future__ import annotations

import socket
from collections.abc import Callable

from fastun.lane.lane import Lane
from fastun.lane.messages import AddSocket, RemoveSocket, SendKeepalive
from fastun.lane.session_lane import SessionLane
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.sockets import SOCKET_ROLES, UdpSockets


class SocketPassing:
    """Passes sockets to workers. Event loop only."""

    def __init__(
        self, lane: SessionLane, sockets: UdpSockets, peers: UdpPeers, on_change: Callable[[], None]
    ) -> None:
        """Call ``on_change`` when the ports are others."""
        self._lane = lane
        self.sockets = sockets
        self._peers = peers
        self._on_change = on_change

    def add(self, bound: socket.socket) -> None:
        """Use one more socket. Raises as UdpSockets.add."""
        self.pass_on(self.sockets.add(bound))

    def pass_on(self, index: int) -> None:
        """Have the workers use the socket that has this index now."""
        for role in SOCKET_ROLES:
            self.sockets.pass_to(self._lane, role, index)
        self._on_change()

    def open_in(self, lane: Lane, *, is_new: bool = False) -> None:
        """Have a dialling side's further lane use a socket of its own. RuntimeFailure, OSError.

        ``is_new``: by another port than before.
        """
        opened = self.sockets.of_lane(lane.index, is_new=is_new)
        for role in SOCKET_ROLES:
            lane.send(role, AddSocket(0, opened.has_offload), opened.socket.fileno())
        self._on_change()

    def leave(self, bound: socket.socket) -> None:
        """Use a socket no more, which is to be closed; its peers are reached by others from now on.

        They find out by a keepalive, as when a host has moved.
        """
        index = self.sockets.remove(bound)
        for udp_peer in self._peers.leave_socket(index):
            self._lane.send("tun-reader", SendKeepalive(udp_peer.slotted.slot))
        for role in SOCKET_ROLES:
            self._lane.send(role, RemoveSocket(index))
        self._on_change()
