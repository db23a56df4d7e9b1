"""What the kernel tells of the socket of a link, TCP or not."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
from dataclasses import dataclass

# include/uapi/asm-generic/socket.h, linux/sock_diag.h: an array of u32, of which the last that
# Linux knows since 4.6 is the drops.
_SO_MEMINFO = 55
_SK_MEMINFO_RMEM_ALLOC, _SK_MEMINFO_DROPS = 0, 8
_SK_MEMINFO = struct.Struct("=9I")
_INT = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class SocketState:
    """The receiving side of a socket; of UDP the queue is counted with the kernel's overhead."""

    receive_queue_bytes: int
    n_drops: int


def n_drops(connection: socket.socket) -> int:
    """Return the kernel's count of what came in and was thrown away. Raises OSError."""
    memory = connection.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _SK_MEMINFO.size)
    dropped: int = _SK_MEMINFO.unpack(memory)[_SK_MEMINFO_DROPS]
    return dropped


def socket_state(connection: socket.socket) -> SocketState:
    """Return the state of a socket. Any thread. Raises OSError when it is closed."""
    memory = connection.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _SK_MEMINFO.size)
    n_drops = _SK_MEMINFO.unpack(memory)[_SK_MEMINFO_DROPS]
    if connection.type == socket.SOCK_DGRAM:  # of which FIONREAD tells the first datagram only
        return SocketState(_SK_MEMINFO.unpack(memory)[_SK_MEMINFO_RMEM_ALLOC], n_drops)
    try:
        waiting = fcntl.ioctl(connection, termios.FIONREAD, bytes(_INT.size))
    except ValueError:  # closed since the line above: its descriptor is -1
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    return SocketState(_INT.unpack(waiting)[0], n_drops)
