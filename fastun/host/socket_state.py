"""What the kernel says about a socket's receiving side, TCP or UDP."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios

import msgspec

# include/uapi/asm-generic/socket.h, linux/sock_diag.h: an array of u32. The last one that Linux has
# had since 4.6 is the number of drops.
_SO_MEMINFO = 55
_SK_MEMINFO_RMEM_ALLOC, _SK_MEMINFO_DROPS = 0, 8
_SK_MEMINFO = struct.Struct("=9I")
_INT = struct.Struct("=i")


class SocketState(msgspec.Struct, frozen=True):
    """The receiving side of a socket; on UDP the queue is counted with the kernel's overhead."""

    receive_queue_bytes: int
    n_drops: int


def n_drops(connection: socket.socket) -> int:
    """Return the kernel's count of packets received and dropped. Raises OSError."""
    return _memory(connection)[_SK_MEMINFO_DROPS]


def socket_state(connection: socket.socket) -> SocketState:
    """Return the state of a socket. Any thread. Raises OSError when it is closed."""
    memory = _memory(connection)
    dropped = memory[_SK_MEMINFO_DROPS]
    if connection.type == socket.SOCK_DGRAM:  # for which FIONREAD gives the first datagram only
        return SocketState(memory[_SK_MEMINFO_RMEM_ALLOC], dropped)
    try:
        waiting = fcntl.ioctl(connection, termios.FIONREAD, bytes(_INT.size))
    except ValueError:  # closed since the line above: its descriptor is -1
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    return SocketState(_INT.unpack(waiting)[0], dropped)


def _memory(connection: socket.socket) -> tuple[int, ...]:
    return _SK_MEMINFO.unpack(
        connection.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _SK_MEMINFO.size)
    )
