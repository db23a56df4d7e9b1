"""A client as in WireGuard's own external tests: it takes only the counter that is next."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from fastun.session import transport
from tests.support.roaming_client import RoamingClient

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host

_ICMP, _ECHO_REQUEST, _ECHO_REPLY = 1, 8, 0
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def echo_request(source: str, destination: str, number: int) -> bytes:
    echo = struct.pack(">BBHHH8x", _ECHO_REQUEST, 0, 0, 1, number)
    echo = echo[:2] + struct.pack(">H", checksum(echo)) + echo[4:]
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(echo), 0, 0, 64, _ICMP, 0) + addresses
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + echo


class StrictClient(RoamingClient):
    """`n_taken` is how many messages it has taken, and so the next counter."""

    def __init__(self, host: Host, file: Path, server: str) -> None:
        super().__init__(host, file, server)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 * 1024 * 1024)
        self.n_taken = 0

    def take(self) -> bytes:
        """Return what the next message holds; anything but the next one is an error."""
        message = self.socket.recv(65535)
        index = self._keys.local_index
        counter, content = transport.open_data(self._keys.receive, index, message)
        assert counter == self.n_taken, f"counter {counter}, where {self.n_taken} was next"
        self.n_taken += 1
        return content

    def take_packets(self, n: int) -> None:
        """Take so many messages that are no keepalives."""
        while n > 0:
            n -= self.take() != b""

    def ping(self, destination: str, number: int) -> None:
        """Send an echo request through the tunnel and take its answer."""
        self.send(self.seal(echo_request(self.inner, destination, number)))
        reply = b""
        while not (reply and reply[9] == _ICMP and reply[20] == _ECHO_REPLY):
            reply = self.take()
        assert struct.unpack_from(">H", reply, 26) == (number,)
