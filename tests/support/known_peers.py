"""A server with many peers in its directory, and their keys: each client is one socket.

client host, 10.1.0.0/16 all its own          server host
a socket for each client  ======= wire =====  fastun serve
"""

from __future__ import annotations

import re
import socket
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from fastun.lab.tunnel import start_gateway
from fastun.link import hello
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session import keys, noise, transport
from tests.support.hasty_client import HELLO, framed

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess
    from fastun.session.keys import KeyPair

SERVER = ("10.0.0.1", 55555)
START_S = 15.0


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

    address = SERVER

    def __init__(self, lab: Lab, tmp_path: Path, n_peers: int) -> None:
        server, self.client = lab.host("server"), lab.host("client")
        lab.wire(server, self.client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        server.ip("route", "add", "10.1.0.0/16", "via", "10.0.0.2")
        self.client.ip("route", "add", "local", "10.1.0.0/16", "dev", "lo")
        home = tmp_path / server.name
        home.mkdir()
        private = keys.generate_private()
        keys.store_private(home / "private.key", private)
        self.key, self.pairs = keys.public_of(private), known(home, n_peers)
        self.gateway: GatewayProcess = start_gateway(
            server, tmp_path, "serve", wire="wireguard", addresses=("10.200.255.1/16",)
        )
        wait_until(lambda: server.listens(55555), "the port", timeout_s=START_S)
        self.connections: list[socket.socket] = []
        self._handshaking = threading.Lock()  # the C part is for one thread, as in a gateway

    def connect(self, n: int) -> bool:
        """Connect as client `n`, from an address of its own; return whether it was answered."""
        connection = self.client.socket()
        connection.settimeout(5)
        connection.bind((f"10.1.{n // 250}.{n % 250 + 1}", 0))
        own = self.pairs[n]
        with self._handshaking:
            initiation, state = noise.initiate(own, self.key)
        connection.connect(self.address)
        connection.sendall(framed(initiation))
        try:
            frame = connection.recv(94, socket.MSG_WAITALL)
        except ConnectionResetError:
            frame = b""
        if not frame:
            connection.close()
            return False
        with self._handshaking:
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
        wait_until(lambda: self.n_up() == 0, "the ends")
