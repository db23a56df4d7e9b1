"""What acceptor and dialler need of the gateway whose links they make."""

from __future__ import annotations

import socket
from typing import Protocol

from fastun.link.ended import Ended
from fastun.link.established import Established
from fastun.link.table import Link


class StreamOwner(Protocol):
    """Carries streams whose handshake is complete. Event loop only."""

    def has_room(self) -> bool:
        """Return whether a connection could become a link before its peer is known."""

    def room_made(self) -> Ended | None:
        """Return what is set when the link that is in the way has ended; None: there is room."""

    def establish(self, established: Established, connection: socket.socket, remote: str) -> Link:
        """Carry the connection, and own it from now on. Raises HelloError or HandshakeError."""
