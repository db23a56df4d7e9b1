"""Frames of a stream, one at a time, before the lane takes over.

    u16 big-endian length | message

Not a byte more than the frame is read, since what follows belongs to the lane.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from fastun.link.hello import HelloError, HungUpError

_PREFIX = struct.Struct(">H")

# Length, and the type of what is inside: from these it shows what cannot be one of ours.
HEAD_BYTES = _PREFIX.size + 4


async def send(connection: socket.socket, message: bytes) -> None:
    """Send one frame. Raises OSError."""
    await asyncio.get_running_loop().sock_sendall(connection, framed(message))


def prefix(length: int) -> bytes:
    """Return the length prefix of a message of ``length`` bytes."""
    return _PREFIX.pack(length)


def framed(message: bytes) -> bytes:
    """Return the message in its frame."""
    return prefix(len(message)) + message


def message_of(frame: bytes) -> bytes:
    """Return the message of a whole frame."""
    return frame[_PREFIX.size :]


def wake_for(connection: socket.socket, n_bytes: int) -> None:
    """Make the socket readable only with this many bytes, or at its end. Raises OSError."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, n_bytes)


async def wait(connection: socket.socket) -> None:
    """Return when there is something to receive, or the end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)


async def receive(connection: socket.socket, bytes_max: int) -> bytes:
    """Return one message. Raises OSError, or HelloError when it is longer or the stream ends."""
    (length,) = _PREFIX.unpack(await _receive_exactly(connection, _PREFIX.size))
    if not 0 < length <= bytes_max:
        raise HelloError("the peer does not speak this wire; give both ends the same --wire")
    return await _receive_exactly(connection, length)


async def _receive_exactly(connection: socket.socket, n_bytes: int) -> bytes:
    loop = asyncio.get_running_loop()
    received = b""
    while len(received) < n_bytes:
        piece = await loop.sock_recv(connection, n_bytes - len(received))
        if not piece:
            raise HungUpError("the peer closed the connection before its hello")
        received += piece
    return received
