"""Stream links: TCP sockets listened for, accepted, dialled and tuned. Source: tcp(7)."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator

from fastun.endpoint import format_host_port
from fastun.host.sockets import binding
from fastun.host.sockets.address import EndpointAddress
from fastun.host.sockets.maker import OWN, SocketMaker
from fastun.link.inside import LeadsInsideError
from fastun.link.outside import Outside

# Bytes that may be unsent in the socket. The queue belongs in the ring, where its delay is
# measured and bounded; the socket needs only enough that it never runs dry between two wake-ups of
# the link-writer: a few of the longest messages.
NOTSENT_LOWAT_BYTES = 128 * 1024

# A peer that is gone without a word is noticed after some 25 s, idle or not.
KEEPALIVE_IDLE_S = 10
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_PROBES = 3
USER_TIMEOUT_MS = 25_000

DIAL_TIMEOUT_S = 10.0

# The first wait after a failure is short, since most links end because one side restarted; the
# longest keeps a fleet of clients from hammering a server that is down.
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 30.0

# No wait is longer than what has passed since the first attempt, or hardly: who comes back after a
# second is found within another. With 2 it would be twice that.
BACKOFF_GROWTH = 1.5

# Connections that wait to be accepted; the kernel uses somaxconn if that is less (4,096). They wait
# for one turn of the event loop, so a burst must fit: when the queue is full, the kernel drops SYNs
# from all sources alike, and a client whose SYN is dropped retries after a second.
BACKLOG = 4096


def listen(
    address: EndpointAddress, maker: SocketMaker = OWN, *, is_beside: bool = False
) -> socket.socket:
    """Return a listening socket. Raises OSError.

    ``is_beside`` as of `binding.bound`. What it accepts has its mark
    (net/ipv4/inet_connection_sock.c).
    """
    listener = maker.listener(address, is_beside=is_beside)
    try:
        listener.listen(BACKLOG)
        binding.allow_overlap(listener, is_allowed=False)
    except BaseException:
        listener.close()
        raise
    return listener


async def dial(to: EndpointAddress, outside: Outside) -> socket.socket:
    """Return a connected, tuned socket. Raises OSError, also LeadsInsideError and TimeoutError."""
    address = to.sockaddr()
    if outside.inside.holds_stream(address):
        raise LeadsInsideError
    connection = outside.sockets.outgoing(to.family, socket.SOCK_STREAM)
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(connection, address)
        tune(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def tune(connection: socket.socket) -> None:
    """Set what every stream link needs; the send buffer stays with the kernel's autotuning."""
    connection.setblocking(False)
    # A frame must not wait for the acknowledgement of the one before it (Nagle: 40 ms a ping).
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def remote_address(connection: socket.socket) -> str:
    """Return ``host:port`` of the other end, or ``?`` when it is gone already."""
    try:
        host, port = connection.getpeername()[:2]
    except (OSError, ValueError):  # ValueError: a socket pair, as in tests
        return "?"
    return format_host_port(host.removeprefix("::ffff:"), port)


def backoff_delays_s() -> Iterator[float]:
    """Yield the waits between attempts: growing to BACKOFF_MAX_S, each cut by up to half."""
    longest = BACKOFF_FIRST_S
    while True:
        yield longest * random.uniform(0.5, 1.0)  # noqa: S311 (spreads clients, guards nothing)
        longest = min(BACKOFF_GROWTH * longest, BACKOFF_MAX_S)
