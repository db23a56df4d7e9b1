"""Super-packets as messages of type 2, of any shape, written from the RFCs and virtio 1.2."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

_TCP, _UDP = 6, 17
_NEEDS_CSUM = 1
_GSO = {(4, _TCP): 1, (6, _TCP): 4, (4, _UDP): 5, (6, _UDP): 5}
_EXTENSIONS_MAX = 4  # destination options, of those that an offload header may lead over


@dataclass(frozen=True)
class Shape:
    """What one message is to become: so many bytes of payload, by `segment` bytes."""

    protocol: str  # tcp, udp
    version: int
    segment: int
    payload: int
    extension: int = 0  # bytes of IPv6 extension headers, by 8

    def __str__(self) -> str:
        extended = f" with {self.extension} bytes of extension headers" if self.extension else ""
        return f"{self.protocol}{self.version} by {self.segment}{extended}"


def _checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _extensions(n_bytes: int, protocol: int) -> bytes:
    """Return headers of `n_bytes` in all, four at most, filled with PadN."""
    headers, left = [], n_bytes
    while left:
        room = _EXTENSIONS_MAX - len(headers)
        length = min(left, -(-left // room // 8) * 8 or 8, 2048)
        left -= length
        following = 60 if left else protocol
        padding, options = length - 2, b""
        while padding > 1:
            option = min(padding, 257)
            options += bytes([1, option - 2]) + bytes(option - 2)
            padding -= option
        headers.append(bytes([following, length // 8 - 1]) + options + bytes(padding))
    return b"".join(headers)


def packet(shape: Shape, source: str, destination: str, port: int = 9) -> tuple[bytes, int]:
    """Return the IP packet, its checksum left to be completed, and where its transport begins."""
    protocol = _TCP if shape.protocol == "tcp" else _UDP
    length = shape.payload + (20 if protocol == _TCP else 8)
    addresses = ip_address(source).packed + ip_address(destination).packed
    pseudo = _checksum(addresses + struct.pack(">IHBB", length, 0, 0, protocol))
    if protocol == _TCP:
        upper = struct.pack(">HHIIBBHHH", 40000, port, 1, 1, 5 << 4, 0x10, 1000, pseudo, 0)
    else:
        upper = struct.pack(">HHHH", 40000, port, length, pseudo)
    upper += bytes(shape.payload)
    if shape.version == 6:
        before = _extensions(shape.extension, protocol)
        first = 60 if before else protocol
        header = struct.pack(">IHBB", 6 << 28, len(before) + length, first, 64) + addresses
        return header + before + upper, len(header + before)
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, protocol, 0) + addresses
    checksum = ~_checksum(header) & 0xFFFF
    return header[:10] + struct.pack(">H", checksum) + header[12:] + upper, 20


def message(shape: Shape, source: str, destination: str, port: int = 9) -> bytes:
    """Return the content of a data message."""
    frame, transport = packet(shape, source, destination, port)
    protocol = _TCP if shape.protocol == "tcp" else _UDP
    offset = 16 if protocol == _TCP else 6
    gso_type = _GSO[shape.version, protocol]
    vnet = struct.pack("<BB5H", _NEEDS_CSUM, gso_type, 0, shape.segment, transport, offset, 0)
    return b"\x02\x00\x00\x00" + vnet + frame


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
