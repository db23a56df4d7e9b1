"""5,000 peers in the directory: any 1,024 of them at once, wave after wave.

client host, 10.1.0.0/16 all its own          server host
a socket for each client  ======= wire =====  fastun serve, 5,000 peers known
"""

from __future__ import annotations

import re
import socket
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import add_peer, start_gateway
from fastun.link import hello
from fastun.native import PEER_SLOTS
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session import keys, noise, transport
from tests.support.hasty_client import HELLO, framed

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Transport
    from fastun.session.keys import KeyPair

N_PEERS = 5000
SERVER = ("10.0.0.1", 55555)
START_S = 15.0
ADD_S = 5.0


def known(state: Path, n_peers: int) -> list[KeyPair]:
    """Fill a directory; through `peer add` it would take minutes."""
    pairs = [keys.pair_of(keys.generate_private()) for _ in range(n_peers)]
    PeerStore(state).close()
    with sqlite3.connect(state / FILE_NAME) as database:
        for n, pair in enumerate(pairs):
            name = f"client{n}"
            row = (name, pair.public, None, "", 0)
            database.execute("INSERT INTO peer VALUES (?, ?, ?, ?, ?, '{}')", row)
            address = f"10.200.{n // 250}.{n % 250 + 1}/32"
            database.execute("INSERT INTO allowed_ip VALUES (?, ?, 0)", (address, name))
    return pairs


class Server:
    """A gateway with its clients' keys, and a host from whose addresses they connect."""

    def __init__(self, lab: Lab, tmp_path: Path) -> None:
        server, self.client = lab.host("server"), lab.host("client")
        lab.wire(server, self.client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        server.ip("route", "add", "10.1.0.0/16", "via", "10.0.0.2")
        self.client.ip("route", "add", "local", "10.1.0.0/16", "dev", "lo")
        home = tmp_path / server.name
        home.mkdir()
        private = keys.generate_private()
        keys.store_private(home / "private.key", private)
        self.key, self.pairs = keys.public_of(private), known(home, N_PEERS)
        self.gateway: GatewayProcess = start_gateway(
            server, tmp_path, "serve", wire="wireguard", addresses=("10.200.255.1/16",)
        )
        wait_until(lambda: server.listens(55555), "the port", timeout_s=START_S)
        self.connections: list[socket.socket] = []

    def connect(self, n: int) -> bool:
        """Connect as client `n`, from an address of its own; return whether it was answered."""
        connection = self.client.socket()
        connection.settimeout(5)
        connection.bind((f"10.1.{n // 250}.{n % 250 + 1}", 0))
        own = self.pairs[n]
        initiation, state = noise.initiate(own, self.key)
        connection.connect(SERVER)
        connection.sendall(framed(initiation))
        try:
            frame = connection.recv(94, socket.MSG_WAITALL)
        except ConnectionResetError:
            frame = b""
        if not frame:
            connection.close()
            return False
        session = noise.consume_response(own, state, frame[2:])
        said = transport.seal_data(session.send, session.remote_index, 0, hello.encode(HELLO))
        connection.sendall(framed(said))
        self.connections.append(connection)
        return True

    def wave(self, first: int, n_clients: int, limit_s: float) -> None:
        """Connect the clients; each tries again until it is taken."""
        deadline = time.monotonic() + limit_s
        waiting = list(range(first, first + n_clients))
        while waiting:
            assert time.monotonic() < deadline, f"{len(waiting)} are still refused"
            waiting = [n for n in waiting if not self.connect(n)]
            time.sleep(0.3 if waiting else 0)

    def metrics(self) -> str:
        """What is scraped, unparsed: that many peers take the parser seconds."""
        return self.gateway.get("/metrics", timeout_s=10)[1]

    def n_up(self) -> int:
        return len(re.findall(r"^fastun_peer_up{.*} 1\.0$", self.metrics(), re.MULTILINE))

    def end_all(self) -> None:
        for connection in self.connections:
            connection.close()
        self.connections.clear()
        wait_until(lambda: self.n_up() == 0, "the ends", timeout_s=10)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_client_among_5000_known_peers_is_served(
    lab: Lab, tmp_path: Path, transport: Transport
) -> None:
    server = Server(lab, tmp_path)
    begun = time.monotonic()
    file = add_peer(server.gateway, "laptop", "10.0.0.1", transport)
    assert time.monotonic() - begun < ADD_S
    client = start_gateway(server.client, tmp_path, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_ping(server.client, "10.200.255.1"), "a link", timeout_s=START_S)
    metrics = server.metrics()
    assert 'fastun_peer_up{peer="laptop"} 1.0' in metrics
    assert 'fastun_peer_up{peer="client7"} 0.0' in metrics
    # For one that is not here: dropped, and not sent to another peer.
    assert not answers_ping(server.client, "10.200.0.8")
    assert client.stop() == 0
    assert server.gateway.stop(timeout_s=10) == 0


@pytest.mark.soak
def test_any_1024_of_5000_known_peers_connect_wave_after_wave(lab: Lab, tmp_path: Path) -> None:
    server = Server(lab, tmp_path)
    server.wave(3000, PEER_SLOTS, 40)
    wait_until(lambda: server.n_up() == PEER_SLOTS, "all links", timeout_s=10)
    assert not server.connect(0)
    metrics = server.metrics()
    assert 'fastun_peer_up{peer="client0"} 0.0' in metrics
    assert 'fastun_handshakes_total{result="no_slot"} 0.0' not in metrics
    # The next wave finds room when this one has gone.
    server.end_all()
    server.wave(0, 600, 30)
    wait_until(lambda: server.n_up() == 600, "all links", timeout_s=10)
    metrics = server.metrics()
    for n in (0, 599, 600, 3000, 4999):
        assert f'fastun_peer_up{{peer="client{n}"}} {float(n < 600)}' in metrics
    server.end_all()
    assert server.gateway.stop(timeout_s=10) == 0
