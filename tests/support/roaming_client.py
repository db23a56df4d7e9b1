"""A client on UDP that has a key and keeps to nothing: it sends what it seals where it likes.

Without a hello, so plain WireGuard to the server. Its file is the one that `fastun peer add` gives.
"""

from __future__ import annotations

import base64
import socket
import struct
import tomllib
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Self

from fastun.lab.tunnel import UDP_PORT
from fastun.native.vocabulary import MessageType
from fastun.session import clock, noise, transport
from fastun.session.cookies import CookieJar
from fastun.session.keys import pair_of

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host

_TIMEOUT_S = 5
_TRIES = 6
_PORT = 40_000


def udp_packet(source: str, destination: str, port: int, payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram; the UDP checksum is left out (0), as IPv4 allows."""
    udp = struct.pack(">4H", _PORT, port, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:] + udp


def _answers(response: bytes, state: noise.InitiatorState) -> bool:
    return int.from_bytes(response[8:12], "little") == state.local_index


class RoamingClient:
    """One session. Use as a context manager."""

    def __init__(self, host: Host, file: Path, server: str) -> None:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        peer = document["peer"][0]
        self._own = pair_of(base64.b64decode(document["interface"]["private_key"]))
        self._peer_public = base64.b64decode(peer["public_key"])
        self._preshared = base64.b64decode(peer["preshared_key"])
        self.inner = str(ip_interface(document["interface"]["address"][0]).ip)
        self.server = server
        self.socket = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.socket.settimeout(_TIMEOUT_S)
        self._counter = 0
        self._shake_hands()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _shake_hands(self) -> None:
        """Try again as any client does: a datagram may be lost where a server has much to do."""
        jar = CookieJar(self._peer_public)
        for _ in range(_TRIES):
            cookie = jar.current(clock.boottime_s())
            initiation, state = noise.initiate(self._own, self._peer_public, cookie=cookie)
            self.send(initiation)
            try:
                response = self.socket.recv(65535)
                while not _answers(response, state):
                    response = self.socket.recv(65535)  # that was of the try before, or a call
            except TimeoutError:
                continue
            if response[0] == MessageType.RESPONSE:
                self._keys = noise.consume_response(self._own, state, response, self._preshared)
                self.send(self.seal())  # proves that we hold the keys
                return
            jar.remember_sent(initiation)
            jar.consume_reply(response, clock.boottime_s())
        raise TimeoutError(f"{self.server} answers no handshake")

    def seal(self, packet: bytes = b"") -> bytes:
        """Return the next data message; empty, it is a keepalive."""
        content = transport.pad(packet)
        message = transport.seal_data(
            self._keys.send, self._keys.remote_index, self._counter, content
        )
        self._counter += 1
        return message

    def send(self, message: bytes, to: str = "") -> None:
        """Send a datagram to an address of the server's."""
        self.socket.sendto(message, (to or self.server, UDP_PORT))

    def send_through_tunnel(self, message: bytes, to: str) -> None:
        """Send a datagram to an address of the server's, inside the tunnel."""
        self.send(self.seal(udp_packet(self.inner, to, UDP_PORT, message)))

    def received(self) -> bytes:
        """Return the next datagram; b"" when there is none."""
        try:
            return self.socket.recv(65535)
        except BlockingIOError:
            return b""
