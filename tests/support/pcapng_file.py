"""What a reader of pcapng files finds in one: written from the format's draft alone."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Packet:
    interface: int
    time_ns: int
    bytes: bytes
    length: int
    is_inbound: bool
    comment: str


@dataclass
class Interface:
    link_type: int
    snap_length: int
    name: str
    dropped: int = -1
    received: int = -1


@dataclass
class Capture:
    interfaces: list[Interface] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)


def parse(content: bytes) -> Capture:
    capture = Capture()
    for kind, body in _blocks(content):
        if kind == 1:
            link_type, reserved, snap_length = struct.unpack_from("=HHI", body)
            options = dict(_options(body[8:]))
            assert reserved == 0
            assert options[9] == b"\x09"
            capture.interfaces.append(Interface(link_type, snap_length, options[2].decode()))
        elif kind == 6:
            capture.packets.append(_packet(body))
        elif kind == 5:
            (number,) = struct.unpack_from("=I", body)
            options = dict(_options(body[12:]))
            (capture.interfaces[number].received,) = struct.unpack("=Q", options[4])
            (capture.interfaces[number].dropped,) = struct.unpack("=Q", options[5])
        else:
            assert kind == 0x0A0D0D0A
            assert body[:8] == struct.pack("=IHH", 0x1A2B3C4D, 1, 0)
    assert all(packet.interface < len(capture.interfaces) for packet in capture.packets)
    return capture


def _packet(body: bytes) -> Packet:
    interface, high, low, n_here, length = struct.unpack_from("=IIIII", body)
    options = dict(_options(body[20 + n_here + -n_here % 4 :]))
    (flags,) = struct.unpack("=I", options[2])
    assert flags & 3 in (1, 2)
    return Packet(
        interface,
        high << 32 | low,
        body[20 : 20 + n_here],
        length,
        flags & 3 == 1,
        options.get(1, b"").decode(),
    )


def _blocks(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(content):
        kind, length = struct.unpack_from("=II", content, at)
        assert length % 4 == 0
        assert content[at + length - 4 : at + length] == content[at + 4 : at + 8]
        yield kind, content[at + 8 : at + length - 4]
        at += length


def _options(content: bytes) -> Iterator[tuple[int, bytes]]:
    while True:
        code, length = struct.unpack_from("=HH", content)
        if code == 0:
            assert content == bytes(4)
            return
        yield code, content[4 : 4 + length]
        content = content[4 + length + -length % 4 :]
