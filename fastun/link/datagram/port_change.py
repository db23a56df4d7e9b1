"""The source port of a side that dials by UDP: the configured one, or another for a silent peer.

A NAT on the way maps our port for as long as something is sent from it, also when the mapping leads
nowhere any more: its own address has changed, or it has forgotten one half. Handshakes and
keepalives keep such an entry alive, so only a new port gets out. Where the port is not configured,
a peer that leaves some handshakes unanswered is tried by a new socket, and the old one is still
read. All peers that are silent at a time share the new ones.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec

from fastun import log
from fastun.errors import RuntimeFailure
from fastun.link.datagram import sockets as udp
from fastun.link.datagram.peer import UdpPeer
from fastun.link.datagram.sockets import UdpSockets

# Handshakes in a row without an answer: some 15 s.
SILENT_HANDSHAKES: Final = 3

# Sockets are few, and a server that is down answers no port.
CHANGE_INTERVAL_S: Final = 90.0


class _Extra(msgspec.Struct, frozen=True):
    index: int
    opened_s: float


class Passing(Protocol):
    """socket_passing.SocketPassing, as far as a change takes it."""

    @property
    def sockets(self) -> UdpSockets:
        """All that there are."""

    def add(self, bound: socket.socket) -> None:
        """Use one more."""

    def pass_on(self, index: int) -> None:
        """Have the workers use the socket that has this index now."""

    async def leave(self, bounds: Sequence[socket.socket]) -> None:
        """Use sockets no more, which are to be closed."""


class PortChange:
    """Opens sockets beside the first, or in its place. Event loop only."""

    def __init__(self, passing: Passing, *, is_allowed: bool) -> None:
        """Open none yet. ``is_allowed``: a silent peer may get another port."""
        self._passing = passing
        self._sockets = passing.sockets
        self._is_allowed = is_allowed
        self._extras: list[_Extra] = []  # the newest last
        self._log = log.get("session")

    async def use(self, port: int | None) -> None:
        """Send from this port from now on, None for any. RuntimeFailure: nothing has changed.

        The new socket is there before the last one is closed; sessions go on.
        """
        kept = [each for each in self._sockets.firsts() if each.getsockname()[1] == port]
        if not kept:
            kept = udp.any_port(port, self._sockets.maker)
            for each in kept:
                try:
                    self._passing.add(each)
                except RuntimeFailure:
                    each.close()
                    raise
                udp.say_listening(each)
        self._extras.clear()
        self._is_allowed = port is None
        left = [each for each in self._sockets.firsts() if each not in kept]
        await self._passing.leave(left)
        for each in left:
            each.close()

    def consider(self, udp_peer: UdpPeer, peers: Iterable[UdpPeer], now_s: float) -> None:
        """Give a silent peer another socket, if it is time for that. ``peers`` use the others."""
        port = udp_peer.port
        is_due = now_s - port.changed_s >= CHANGE_INTERVAL_S
        if not self._is_allowed or port.n_silent < SILENT_HANDSHAKES or not is_due:
            return
        newest = self._extras[-1] if self._extras else None
        if newest is None or now_s - newest.opened_s >= CHANGE_INTERVAL_S:
            newest = self._open({each.port.socket_index for each in peers}, now_s)
        if newest is None or newest.opened_s <= port.changed_s:
            return
        port.socket_index, port.changed_s = newest.index, now_s
        if not port.is_said:
            port.is_said = True
            self._log.info("no answer; trying another source port", peer=udp_peer.slotted.peer.name)

    def _open(self, used: set[int | None], now_s: float) -> _Extra | None:
        try:
            (bound,) = udp.any_port(None, self._sockets.maker)
        except RuntimeFailure:  # no descriptors; the next handshake tries again
            return None
        try:
            index = self._add(bound, used)
            if index is None:
                bound.close()
                return None
            self._passing.pass_on(index)
        except OSError as error:  # as above; at most one in 90 s is lost by this
            self._log.debug("no other source port", error=error.strerror)
            return None
        self._extras.append(_Extra(index, now_s))
        return self._extras[-1]

    def _add(self, bound: socket.socket, used: set[int | None]) -> int | None:
        """Return the new socket's index, for which an unused one may go; None: there is no room."""
        retired = next((extra for extra in self._extras[:-1] if extra.index not in used), None)
        if retired is not None:
            self._extras.remove(retired)
            self._sockets.replace(retired.index, bound)
            return retired.index
        if not self._sockets.has_room():
            return None
        return self._sockets.add(bound)
