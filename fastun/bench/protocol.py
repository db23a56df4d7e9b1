"""What the two ends of ``fastun bench`` say to each other inside the tunnel, and its bounds.

    TCP, port 55556; one connection an exchange; numbers big-endian
    request   "ftbench1" | u8 kind | 3 zero bytes | u32 duration in ms       to the served end
    answer    "ftbench1"                                                     from it
    ECHO      16 bytes to it, the same 16 back, over and over
    SINK      bytes to it, the end of the stream; then u64 bytes | u64 ns, as it received them
    SOURCE    bytes from it, the end of the stream

The served end does not answer what is not a request, and no exchange outlasts its duration by more
than GRACE_S and one STALL_S, whatever the other end does: a stranger that reaches the port gets
traffic only.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from enum import IntEnum

PORT = 55556
MAGIC = b"ftbench1"
# Long enough for a figure to settle; a minute of traffic is the most that a stranger can ask for.
DURATION_MS_MAX = 60_000
# For what is left in the queues of a slow tunnel when the source has stopped.
GRACE_S = 5.0
# Without a single byte. A link that goes over from UDP to TCP is back sooner, and a busy host, too.
STALL_S = 10.0
# Measured on a busy machine of 2 cores: 1 MiB a call keeps up with iperf3, 256 KiB gives 0.9 of it.
CHUNK_BYTES = 1024 * 1024
ECHO_BYTES = 16

_REQUEST = struct.Struct(">8sB3sI")
_RECEIVED = struct.Struct(">QQ")


class Kind(IntEnum):
    """What the served end is asked to be."""

    ECHO = 1
    SINK = 2
    SOURCE = 3


@dataclass(frozen=True, slots=True)
class Request:
    """One exchange."""

    kind: Kind
    duration_ms: int

    @property
    def limit_s(self) -> float:
        """After how long the served end hangs up at the latest, but for one STALL_S."""
        return self.duration_ms / 1000 + GRACE_S


@dataclass(frozen=True, slots=True)
class Received:
    """What one end received, from its first byte to its last."""

    n_bytes: int
    duration_s: float

    @property
    def bits_per_second(self) -> float:
        """The goodput; 0 where it is unknown."""
        return 8 * self.n_bytes / self.duration_s if self.duration_s > 0 else 0.0


def encode_request(request: Request) -> bytes:
    """Return its 16 bytes."""
    return _REQUEST.pack(MAGIC, request.kind, bytes(3), request.duration_ms)


def decode_request(encoded: bytes) -> Request:
    """Return the request in these 16 bytes; ValueError when they are none."""
    if len(encoded) != _REQUEST.size:
        raise ValueError(f"{len(encoded)} bytes")
    magic, kind, zero, duration_ms = _REQUEST.unpack(encoded)
    if magic != MAGIC or any(zero):
        raise ValueError("not a request of fastun bench")
    if not 0 < duration_ms <= DURATION_MS_MAX:
        raise ValueError(f"a duration of {duration_ms} ms")
    return Request(Kind(kind), duration_ms)


def encode_received(received: Received) -> bytes:
    """Return its 16 bytes."""
    return _RECEIVED.pack(received.n_bytes, int(received.duration_s * 1e9))


def decode_received(encoded: bytes) -> Received:
    """Return what the other end received; ValueError when these are not 16 bytes."""
    if len(encoded) != _RECEIVED.size:
        raise ValueError(f"{len(encoded)} bytes")
    n_bytes, duration_ns = _RECEIVED.unpack(encoded)
    return Received(n_bytes, duration_ns / 1e9)


# -- both ends --------------------------------------------------------------------------------


def receive_exactly(connection: socket.socket, n_bytes: int, limit_s: float = STALL_S) -> bytes:
    """Return so many bytes, or fewer where the stream ends before.

    Raises TimeoutError when they are not there after `limit_s`, however they drip; OSError.
    """
    received, until_s = bytearray(), time.monotonic() + limit_s
    while len(received) < n_bytes:
        connection.settimeout(max(0.001, until_s - time.monotonic()))
        piece = connection.recv(n_bytes - len(received))
        if not piece:
            break
        received += piece
    return bytes(received)


def send_for(connection: socket.socket, duration_s: float) -> None:
    """Send as much as goes through, for so long; then end the stream. Raises OSError."""
    chunk = memoryview(bytes(CHUNK_BYTES))
    connection.settimeout(STALL_S)
    until_s = time.monotonic() + duration_s
    while time.monotonic() < until_s:
        connection.send(chunk)
    connection.shutdown(socket.SHUT_WR)


def receive_all(connection: socket.socket, limit_s: float) -> Received:
    """Receive until the stream ends; TimeoutError when it has not after so long. Raises OSError."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    connection.settimeout(STALL_S)
    until_s = time.monotonic() + limit_s
    n_bytes = connection.recv_into(buffer)
    first_s = last_s = time.monotonic()
    while n := connection.recv_into(buffer):
        n_bytes += n
        last_s = time.monotonic()
        if last_s > until_s:
            raise TimeoutError("the other end does not stop sending")
    return Received(n_bytes, last_s - first_s)
