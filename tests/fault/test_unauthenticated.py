"""Who has no key gets no byte, costs next to nothing and disturbs nobody; no counter comes twice.

client (raw sockets, or fastun through a relay)  ==== veth ====  server (fastun serve)
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import PORT, SERVER_ADDRESSES, GatewayProcess, add_peer, start_gateway
from tests.support.processes import kill_worker
from tests.support.promised import promised_s
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

SERVER_OUTER, SERVER_INNER = "10.0.0.1", "10.99.0.1"
RELAY_PORT = 44444
IDLER = "10.0.0.3"
N_IDLE = 2000
IDLE_MEMORY_BYTES = 8 * 1024 * 1024


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[tuple[GatewayProcess, Host]]:
    """A serving gateway on the wireguard wire, and the host that comes to it."""
    inside, outside = lab.host("server"), lab.host("client")
    lab.wire(inside, outside, [f"{SERVER_OUTER}/24"], ["10.0.0.2/24"])
    gateway = start_gateway(inside, tmp_path, "serve", wire="wireguard", addresses=SERVER_ADDRESSES)
    wait_until(lambda: inside.listens(PORT), "fastun listens", timeout_s=15)
    yield gateway, outside
    assert gateway.stop() == 0


def connect(gateway: GatewayProcess, outside: Host, tmp_path: Path) -> GatewayProcess:
    file = add_peer(gateway, "client", SERVER_OUTER)
    client = start_gateway(outside, tmp_path, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_ping(outside, SERVER_INNER), "the tunnel", timeout_s=20)
    return client


def dial(outside: Host) -> socket.socket:
    connection = outside.socket()
    connection.settimeout(10)
    connection.connect((SERVER_OUTER, PORT))
    return connection


def everything_read(connection: socket.socket) -> bytes:
    """What the server says until it closes; TimeoutError if it does not."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


SENT: dict[str, bytes] = {
    "nothing": b"",
    "a length of 0": b"\x00\x00",
    "a length of 65535": b"\xff\xff" + bytes(100),
    "a random initiation": struct.pack(">H", 148) + b"\x01\x00\x00\x00" + os.urandom(144),
    "an initiation cut short": struct.pack(">H", 100) + b"\x01\x00\x00\x00" + os.urandom(96),
    "a response": struct.pack(">H", 92) + b"\x02\x00\x00\x00" + os.urandom(88),
    "a data message": struct.pack(">H", 64) + b"\x04\x00\x00\x00" + os.urandom(60),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a hello of the plain wire": struct.pack(">H", 12) + b"\x01\x00\x00\x00\x80" + bytes(7),
}


@pytest.mark.parametrize("what", SENT)
def test_what_is_not_authentic_gets_not_a_byte_and_is_closed(
    server: tuple[GatewayProcess, Host], what: str
) -> None:
    gateway, outside = server
    with dial(outside) as connection:
        connection.sendall(SENT[what])
        assert everything_read(connection) == b""
    assert gateway.scrape().total("fastun_hello_failures_total") == 1


class Relay:
    """Passes one TCP connection after another on to the server; sees every message."""

    def __init__(self, host: Host) -> None:
        self.messages: list[tuple[str, bytes]] = []  # direction, message
        self.alters: Callable[[str, bytes], bytes] = lambda _, message: message
        self._host = host
        self._listener = host.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((SERVER_OUTER, RELAY_PORT))
        self._listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = self._host.socket()
            upstream.connect((SERVER_OUTER, PORT))
            for source, sink, direction in ((client, upstream, "up"), (upstream, client, "down")):
                threading.Thread(
                    target=self._pump, args=(source, sink, direction), daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        stream = source.makefile("rb")
        try:
            while len(prefix := stream.read(2)) == 2:
                message = stream.read(struct.unpack(">H", prefix)[0])
                self.messages.append((direction, message[:16]))
                message = self.alters(direction, message)
                sink.sendall(struct.pack(">H", len(message)) + message)
        except (OSError, ValueError):
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def relayed(
    server: tuple[GatewayProcess, Host], tmp_path: Path
) -> Iterator[tuple[GatewayProcess, GatewayProcess, Relay]]:
    """Server and client, connected through a relay."""
    gateway, outside = server
    relay = Relay(gateway.host)
    file = add_peer(gateway, "client", SERVER_OUTER)
    file.write_text(file.read_text().replace(f":{PORT}", f":{RELAY_PORT}"))
    client = start_gateway(outside, tmp_path, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_ping(outside, SERVER_INNER), "the tunnel", timeout_s=20)
    yield gateway, client, relay
    assert client.stop() == 0
    relay.close()


@pytest.mark.parametrize(
    "n_kills", [pytest.param(10, id="10"), pytest.param(100, id="100", marks=pytest.mark.soak)]
)
def test_no_counter_is_used_twice_however_often_workers_are_killed(
    relayed: tuple[GatewayProcess, GatewayProcess, Relay], n_kills: int
) -> None:
    gateway, client, relay = relayed
    goes_on = True
    transfer = start_transfer(
        client.host, gateway.host, SERVER_INNER, n_bytes=10**6, goes_on=lambda: goes_on
    )
    for n in range(n_kills):
        kill_worker((client, gateway)[n % 2], ("tun-reader", "link-reader")[n // 2 % 2])
        wait_until(lambda: answers_ping(client.host, SERVER_INNER), "again")
        n_before = len(relay.messages)
        wait_until(lambda n=n_before: len(relay.messages) > n + 100, "traffic")
    goes_on = False
    assert transfer.result(timeout=60).is_exact
    data = [
        (direction, *struct.unpack("<IQ", message[4:16]))
        for direction, message in relay.messages
        if message[0] in (4, 5)
    ]
    assert len(data) > 50 * n_kills
    assert len(set(data)) == len(data), "an (index, counter) pair was used twice"


def test_tampered_and_replayed_messages_are_dropped_one_by_one(
    relayed: tuple[GatewayProcess, GatewayProcess, Relay],
) -> None:
    gateway, client, relay = relayed
    before = gateway.scrape()

    def flip_a_bit(direction: str, message: bytes) -> bytes:
        if direction == "down" or message[0] not in (4, 5):
            return message
        return message[:-1] + bytes([message[-1] ^ 1])

    relay.alters = flip_a_bit
    assert not answers_ping(client.host, SERVER_INNER)
    relay.alters = lambda _, message: message
    wait_until(lambda: answers_ping(client.host, SERVER_INNER), "the same session goes on")
    after = gateway.scrape()
    name = "fastun_dropped_packets_total"
    assert after.total(name, reason="bad_tag") > before.total(name, reason="bad_tag")
    assert client.scrape().total("fastun_reconnects_total") == 0


@pytest.mark.promise("2,000 idle connections keep no client out")
def test_2000_idle_connections_cost_little_and_keep_no_client_out(
    server: tuple[GatewayProcess, Host], tmp_path: Path
) -> None:
    gateway, outside = server
    # Not from the address of the client: each source has limits of its own.
    outside.ip("address", "add", f"{IDLER}/24", "dev", "to-server")
    file = add_peer(gateway, "client", SERVER_OUTER)
    process = psutil.Process(gateway.process.pid)
    before = process.memory_info().rss
    idle = [outside.socket() for _ in range(10)]  # one setns a socket is slow: the rest below
    idle += outside.inside(lambda: [socket.socket() for _ in range(N_IDLE - len(idle))])
    try:
        for connection in idle:
            connection.setblocking(False)
            connection.bind((IDLER, 0))
            connection.connect_ex((SERVER_OUTER, PORT))
        time.sleep(1)
        assert process.memory_info().rss - before < IDLE_MEMORY_BYTES
        started = start_gateway(outside, tmp_path, "connect", str(file), wire="wireguard")
        wait_until(lambda: outside.listens(10055), "the client runs", timeout_s=15)
        within_s = promised_s(2)
        wait_until(lambda: answers_ping(outside, SERVER_INNER), "the client", timeout_s=within_s)
        assert process.memory_info().rss - before < IDLE_MEMORY_BYTES
        assert started.stop(signal.SIGTERM) == 0
    finally:
        for connection in idle:
            connection.close()
