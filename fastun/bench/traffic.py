"""The asking end of ``fastun bench``: how much goes through to a served end, and how fast one byte.

`connect` makes the socket: in a host of the laboratory, or bound to a tunnel's device.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fastun.bench.protocol import (
    ECHO_BYTES,
    GRACE_S,
    MAGIC,
    STALL_S,
    Kind,
    Received,
    Request,
    decode_received,
    encode_received,
    encode_request,
    receive_all,
    receive_exactly,
    send_for,
)
from fastun.errors import RuntimeFailure

Connect = Callable[[], socket.socket]
Direction = Literal["send", "receive"]

# With so many the median of an idle tunnel is steady; more would only take longer.
N_ROUND_TRIPS = 20
_INTERVAL_S = 0.02
_ECHO_MS = 2000
# A served end that is busy with another takes no request meanwhile.
_ANSWER_S = 5.0
_RECEIVED_BYTES = len(encode_received(Received(0, 0.0)))


class NoAnswer(RuntimeFailure):
    """The connection was accepted by something that does not answer as a served end does."""


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """How long 16 bytes took there and back, through both ends' TCP and programs."""

    min_ms: float
    median_ms: float
    max_ms: float


def transfer(connect: Connect, direction: Direction, duration_s: float) -> Received:
    """Send, or receive, as much as goes through for so long; return what the receiver saw.

    Raises OSError when the connection breaks or stalls, NoAnswer.
    """
    request = Request(Kind.SINK if direction == "send" else Kind.SOURCE, int(duration_s * 1000))
    with _asked(connect, request) as connection:
        if direction == "receive":
            return receive_all(connection, request.limit_s)
        send_for(connection, duration_s)
        # The last of it is still in the queues.
        encoded = receive_exactly(connection, _RECEIVED_BYTES, GRACE_S + STALL_S)
    try:
        return decode_received(encoded)
    except ValueError:
        raise ConnectionResetError(
            "the other end closed the connection before it reported what it received"
        ) from None


def round_trips(connect: Connect) -> RoundTrips:
    """Measure N_ROUND_TRIPS. Raises OSError, NoAnswer."""
    times_ms = []
    with _asked(connect, Request(Kind.ECHO, _ECHO_MS)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(N_ROUND_TRIPS):
            time.sleep(_INTERVAL_S)
            started_s = time.perf_counter()
            connection.sendall(bytes(ECHO_BYTES))
            if len(receive_exactly(connection, ECHO_BYTES)) < ECHO_BYTES:
                raise ConnectionResetError("the other end closed the connection")
            times_ms.append(1e3 * (time.perf_counter() - started_s))
    return RoundTrips(min(times_ms), statistics.median(times_ms), max(times_ms))


def _asked(connect: Connect, request: Request) -> socket.socket:
    """Return a connection on which the served end has taken the request."""
    connection = connect()
    try:
        connection.settimeout(_ANSWER_S)
        connection.sendall(encode_request(request))
        answer = receive_exactly(connection, len(MAGIC), _ANSWER_S)
    except TimeoutError:
        connection.close()
        raise NoAnswer("busy with another client, or not fastun bench; try again") from None
    except BaseException:
        connection.close()
        raise
    if answer != MAGIC:
        connection.close()
        raise NoAnswer("the program that listens there is not fastun bench")
    return connection
