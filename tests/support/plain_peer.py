"""A peer of the plain wire that can misbehave: says its hello, then sends what it is said.

Written from the description of the wire, without fastun's own code:
``u16 big-endian length | message``; the hello is ``0x01 | 3 zero bytes | msgpack map``.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Self

import msgpack

if TYPE_CHECKING:
    from fastun.lab.host import Host

HELLO = {
    "version": 1,
    "software": "plain_peer",
    "mode": "tun",
    "offload": ["tcp", "udp"],
    "message_max": 65535,
}


def frame(message: bytes) -> bytes:
    return struct.pack(">H", len(message)) + message


def checksum(data: bytes) -> int:
    words = struct.unpack(f">{len(data) // 2}H", data)
    total = sum(words)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_packet(source: str, destination: str, port: int, payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram; the UDP checksum is left out (0), as IPv4 allows."""
    udp = struct.pack(">4H", 40000, port, 8 + len(payload), 0) + payload
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(udp),
        0,
        0,
        64,
        17,
        0,
        socket.inet_aton(source),
        socket.inet_aton(destination),
    )
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + udp


class PlainPeer:
    """One connection. Use as a context manager."""

    def __init__(self, host: Host, address: str, port: int) -> None:
        self.connection = host.socket()
        self.connection.settimeout(10)
        self.connection.connect((address, port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def say_hello(self, **changes: object) -> dict[str, object]:
        """Exchange hellos; return the other side's."""
        self.send(frame(b"\x01\x00\x00\x00" + msgpack.packb(HELLO | changes)))
        (length,) = struct.unpack(">H", self.connection.recv(2, socket.MSG_WAITALL))
        hello = self.connection.recv(length, socket.MSG_WAITALL)
        assert hello[:4] == b"\x01\x00\x00\x00"
        return dict(msgpack.unpackb(hello[4:]))

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def is_closed_by_peer(self) -> bool:
        """Whether the other side closes the connection within the time-out; data is read over."""
        try:
            while self.connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
        return True
