"""``python -m fastun.bench.model.load``: one end of a load, a process of its own.

    sink-tcp ADDRESS PORT                 takes connections, and what comes on them
    source-tcp ADDRESS PORT FLOWS MSS     sends as much as goes; an MSS of 0 is the path's
    sink-udp ADDRESS PORT                 takes small datagrams; every 64th is answered
    source-udp ADDRESS PORT FROM,FROM,..  sends them from these ports, 512 ahead of the answers

It says "ready" when it has begun, and goes on until it is ended. The answers of small datagrams go
to a port of their own, so that the flow itself has none.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import sys
from collections.abc import Sequence

from fastun.bench.protocol import CHUNK_BYTES

PAYLOAD_BYTES = 64
_ANSWERED = 64
_AHEAD = 512
# What was lost meanwhile is not waited for.
_ANSWER_S = 0.05
_READY = "ready\n"


def _ready() -> None:
    sys.stdout.write(_READY)
    sys.stdout.flush()


def sink_tcp(address: str, port: int) -> None:
    """Receive on every connection."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with socket.create_server((address, port), backlog=64) as listener:
        selector = selectors.DefaultSelector()
        selector.register(listener, selectors.EVENT_READ)
        _ready()
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    selector.register(connection, selectors.EVENT_READ)
                elif not key.fileobj.recv_into(buffer):  # type: ignore[union-attr]
                    selector.unregister(key.fileobj)


def source_tcp(address: str, port: int, n_flows: int, mss: int) -> None:
    """Send on so many connections."""
    chunk = memoryview(bytes(CHUNK_BYTES))
    selector = selectors.DefaultSelector()
    for _ in range(n_flows):
        connection = socket.socket()
        if mss:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        connection.connect((address, port))
        connection.setblocking(n_flows == 1)
        selector.register(connection, selectors.EVENT_WRITE)
    _ready()
    if n_flows == 1:
        while True:
            connection.send(chunk)
    while True:
        for key, _ in selector.select():
            key.fileobj.send(chunk)  # type: ignore[union-attr]


def sink_udp(address: str, port: int) -> None:
    """Receive, and answer one of 64 to the port that it names."""
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind((address, port))
        _ready()
        for number in itertools.count(1):
            message, source = datagrams.recvfrom(PAYLOAD_BYTES)
            if number % _ANSWERED == 0:
                datagrams.sendto(b"answer", (source[0], int.from_bytes(message[:2], "big")))


def source_udp(address: str, port: int, ports: Sequence[int]) -> None:
    """Send from these ports in turn."""
    answers = socket.socket(type=socket.SOCK_DGRAM)
    answers.bind(("", 0))
    answers.settimeout(_ANSWER_S)
    message = answers.getsockname()[1].to_bytes(2, "big") + bytes(PAYLOAD_BYTES - 2)
    sources = []
    for own in ports:
        source = socket.socket(type=socket.SOCK_DGRAM)
        source.bind(("", own))
        source.connect((address, port))
        sources.append(source)
    _ready()
    n_ahead = 0
    for source in itertools.cycle(sources):
        for _ in range(_ANSWERED):
            source.send(message)
        n_ahead += _ANSWERED
        while n_ahead >= _AHEAD:
            try:
                answers.recv(16)
                n_ahead -= _ANSWERED
            except TimeoutError:
                n_ahead = 0


def main(arguments: Sequence[str]) -> None:
    """Be what the first argument says."""
    kind, address, port = arguments[0], arguments[1], int(arguments[2])
    if kind == "sink-tcp":
        sink_tcp(address, port)
    elif kind == "source-tcp":
        source_tcp(address, port, int(arguments[3]), int(arguments[4]))
    elif kind == "sink-udp":
        sink_udp(address, port)
    else:
        source_udp(address, port, [int(own) for own in arguments[3].split(",")])


if __name__ == "__main__":
    main(sys.argv[1:])
