"""Attaches to a socket what is compiled for it: classic BPF (socket(7), linux/filter.h)."""

from __future__ import annotations

import array
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

#: struct sock_filter.
INSTRUCTION: Final = struct.Struct("=HBBI")
_PROGRAM: Final = struct.Struct("@HP")  # struct sock_fprog


def attach(to: socket.socket, level: int, option: int, instructions: bytes) -> None:
    """Give a socket these instructions by an option of its own. Raises OSError."""
    kept = array.array("B", instructions)  # has an address, without ctypes: 0.7 MiB
    address, n_bytes = kept.buffer_info()
    to.setsockopt(level, option, _PROGRAM.pack(n_bytes // INSTRUCTION.size, address))
