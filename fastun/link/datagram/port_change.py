"""Another source port for a peer on UDP that stays silent.

A NAT on the way maps our port for as long as something is sent from it, also when the mapping leads
nowhere any more: its own address has changed, or it has forgotten one half. Handshakes and
keepalives keep such an entry alive, so only a new port gets out. Where the port is not configured,
a peer that leaves some handshakes unanswered is tried by a new socket, and the old one is still
read. All peers that are silent at a time share the new ones.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Final

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


class PortChange:
    """Opens sockets beside the first. Event loop only."""

    def __init__(
        self, sockets: UdpSockets, pass_on: Callable[[int], None], *, is_allowed: bool
    ) -> None:
        """Open none yet. ``pass_on(index)`` gives a new socket to the workers."""
        self._sockets = sockets
        self._pass_on = pass_on
        self._is_allowed = is_allowed
        self._extras: list[_Extra] = []  # the newest last
        self._log = log.get("session")

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
            (bound,) = udp.any_port(None)
        except RuntimeFailure:  # no descriptors; the next handshake tries again
            return None
        try:
            index = self._add(bound, used)
            if index is None:
                bound.close()
                return None
            self._pass_on(index)
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
