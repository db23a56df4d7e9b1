"""UDP sockets on their way to the workers and back, while these run or when one is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Final

from fastun.lane.lane import Lane
from fastun.lane.messages import AddSocket, RemoveSocket, SendKeepalive
from fastun.lane.session_lane import SessionLane
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.sockets import SOCKET_ROLES, UdpSockets

#: For how long peers may still send to a socket that is to be closed, until they have heard of the
#: other one; and how long it is then read, by which nothing more arrives.
OVERLAP_S: Final = 0.75
DRAIN_S: Final = 0.25


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
        """Use one more socket. Raises as UdpSockets.add; OSError: no worker can be given it."""
        index = self.sockets.add(bound)
        try:
            self.pass_on(index)
        except OSError:
            self._leave(bound, set())
            raise

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

    async def leave(self, bounds: Sequence[socket.socket]) -> None:
        """Use sockets no more, which are to be closed; their peers are reached by others.

        They find out by an empty message, as when a host has moved. What is on its way by the old
        ones meanwhile is still read.
        """
        moved = [self._move_from(each) for each in bounds]
        if any(moved):
            self._on_change()
            await asyncio.sleep(OVERLAP_S)
            for each in bounds:
                self.sockets.turn_away(self.sockets.begin_leaving(each))
            await asyncio.sleep(DRAIN_S)
        for bound, slots in zip(bounds, moved, strict=True):
            self._leave(bound, slots)

    def _move_from(self, bound: socket.socket) -> set[int]:
        """Show the peers of a socket another one; return the slots of those that are connected.

        The gateway does: the workers answer where a peer sends to, which is the old one still.
        """
        moved = self._peers.leave_socket(self.sockets.begin_leaving(bound))
        for udp_peer in moved:
            message = udp_peer.seal_control(b"")
            with contextlib.suppress(OSError):  # lost, as any datagram may be
                if message is not None:
                    self._peers.send(udp_peer, message)
        return {each.slotted.slot for each in moved}

    def _leave(self, bound: socket.socket, moved: set[int]) -> None:
        index = self.sockets.remove(bound)
        still = {each.slotted.slot for each in self._peers.leave_socket(index)}
        for slot in sorted(moved | still):
            self._lane.send("tun-reader", SendKeepalive(slot))
        for role in SOCKET_ROLES:
            self._lane.send(role, RemoveSocket(index))
        self._on_change()
