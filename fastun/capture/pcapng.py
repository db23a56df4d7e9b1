"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng), all but those of packets, which C makes."""

from __future__ import annotations

import struct
from typing import Final

LINKTYPE_ETHERNET: Final = 1
LINKTYPE_RAW: Final = 101

_SECTION_HEADER: Final = 0x0A0D0D0A
_BYTE_ORDER: Final = 0x1A2B3C4D
_INTERFACE_DESCRIPTION: Final = 1
_INTERFACE_STATISTICS: Final = 5

# Options: of the section, of an interface, and of its statistics.
_SHB_OS: Final = 3
_SHB_USER_APPLICATION: Final = 4
_IF_NAME: Final = 2
_IF_DESCRIPTION: Final = 3
_IF_TIME_RESOLUTION: Final = 9
_ISB_START: Final = 2
_ISB_END: Final = 3
_ISB_RECEIVED: Final = 4
_ISB_DROPPED: Final = 5

_NANOSECONDS: Final = 9  # 10 to the minus 9


def section_header(application: str, system: str) -> bytes:
    """Return what a file begins with."""
    body = struct.pack("=IHHq", _BYTE_ORDER, 1, 0, -1)
    options = (
        (_SHB_OS, system.encode()),
        (_SHB_USER_APPLICATION, application.encode()),
    )
    return _block(_SECTION_HEADER, body, options)


def interface(link_type: int, snap_length: int, name: str, description: str) -> bytes:
    """Return what describes one interface; they are numbered from 0 as they come."""
    options = (
        (_IF_NAME, name.encode()),
        (_IF_DESCRIPTION, description.encode()),
        (_IF_TIME_RESOLUTION, bytes([_NANOSECONDS])),
    )
    return _block(_INTERFACE_DESCRIPTION, struct.pack("=HHI", link_type, 0, snap_length), options)


def statistics(
    number: int, began_ns: int, ended_ns: int, *, n_received: int, n_dropped: int
) -> bytes:
    """Return what was seen at an interface, and how much of it the capture could not take."""
    options = (
        (_ISB_START, _time(began_ns)),
        (_ISB_END, _time(ended_ns)),
        (_ISB_RECEIVED, struct.pack("=Q", n_received)),
        (_ISB_DROPPED, struct.pack("=Q", n_dropped)),
    )
    return _block(_INTERFACE_STATISTICS, struct.pack("=I", number) + _time(ended_ns), options)


def _time(ns: int) -> bytes:
    return struct.pack("=II", ns >> 32, ns & 0xFFFFFFFF)


def _block(kind: int, body: bytes, options: tuple[tuple[int, bytes], ...]) -> bytes:
    for code, value in options:
        body += struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)
    body += bytes(4)  # the last option
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length
