"""More peers than open files are allowed for: who is connected stays, and others wait for room.

client (peers of fastun, in this process or one of fastun's own)  ==== veth ====  server
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from ipaddress import ip_network
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun import descriptors
from fastun.lab.host import LabError, wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import (
    FASTUN,
    PORT,
    SERVER_ADDRESSES,
    GatewayProcess,
    add_peer,
    start_gateway,
)
from fastun.link import hello
from fastun.link.hello import HelloError
from fastun.link.key_exchange import KeyExchange
from fastun.link.peer_slots import PeerSlots
from fastun.link.stream.handshake import SealedHandshaker
from fastun.native import PEER_SLOTS, ROLES
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.session import keys
from fastun.session.refusal import HandshakeError
from tests.support.descriptors import limit, limited_to, limits_of
from tests.support.processes import kill_worker, worker_pid
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

SERVER_OUTER, SERVER_INNER = "10.0.0.1", "10.99.0.1"
N_PEERS = 80
N_FILES = 160
SERVER_KEY = keys.pair_of(keys.generate_private())


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    inside, outside = lab.host("server"), lab.host("client")
    lab.wire(inside, outside, [f"{SERVER_OUTER}/24"], ["10.0.0.2/24"])
    return inside, outside


def is_healthy(gateway: GatewayProcess) -> bool:
    try:
        return gateway.get("/healthz")[0] == 200
    except LabError:  # a busy machine
        return False


def is_replaced(gateway: GatewayProcess, role: str, killed: int) -> bool:
    """Return whether there is another worker: health is of before, until the gateway has seen."""
    try:
        return worker_pid(gateway, role) != killed
    except (psutil.Error, LabError):  # a zombie, or none
        return False


def serve(host: Host, tmp_path: Path, program: Sequence[str] = ()) -> GatewayProcess:
    gateway = start_gateway(
        host, tmp_path, "serve", wire="wireguard", addresses=SERVER_ADDRESSES, program=program
    )
    wait_until(lambda: host.listens(PORT), "fastun listens", timeout_s=15)
    wait_until(lambda: is_healthy(gateway), "its workers run", timeout_s=15)
    return gateway


# -- peers in this process --------------------------------------------------------------------


class Crowd:
    """Peers, each of whom greets on a connection of its own and says nothing more."""

    def __init__(self, host: Host, state: Path) -> None:
        self.connected: dict[int, socket.socket] = {}
        self._host = host
        self._pairs = [keys.pair_of(keys.generate_private()) for _ in range(N_PEERS)]
        self._peer_slots = PeerSlots(RecordingLane().as_lane())
        self._peer_slots.replace([Peer(name="server", public_key=SERVER_KEY.public)])
        state.mkdir()
        keys.store_private(state / "private.key", SERVER_KEY.private)
        with PeerStore(state) as store, store.changes():
            for n, pair in enumerate(self._pairs):
                networks = (ip_network(f"10.99.0.{n + 2}/32"),)
                store.add(Peer(name=f"p{n}", public_key=pair.public, allowed_ips=networks))

    def dial(self, numbers: list[int]) -> None:
        """Have these connect; those who do are in `connected`."""

        async def dial_all() -> None:
            for n in numbers:
                connection = self._host.socket()
                connection.setblocking(False)
                if await self._greets(n, connection):
                    self.connected[n] = connection
                else:
                    connection.close()

        asyncio.run(dial_all())

    async def _greets(self, n: int, connection: socket.socket) -> bool:
        says = hello.Hello(
            version=hello.PROTOCOL_VERSION,
            software="fastun test",
            mode="tun",
            offload=(),
            message_max=60000,
            aeads=(hello.CHACHA,),
        )
        exchange = KeyExchange(self._peer_slots, self._pairs[n], lambda _: says)
        handshaker = SealedHandshaker(exchange)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, (SERVER_OUTER, PORT))
            await handshaker.connect(connection)
        except (HelloError, HandshakeError, OSError):
            return False
        return True

    def n_open(self) -> int:
        """How many connections the server has not closed."""
        return sum(map(_is_open, self.connected.values()))

    def leave(self, n: int) -> None:
        self.connected.pop(n).close()


def _is_open(connection: socket.socket) -> bool:
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return True
    except ConnectionResetError:
        pass
    return False


@pytest.fixture
def crowd(hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[Crowd]:
    peers = Crowd(hosts[1], tmp_path / "server")
    yield peers
    for connection in peers.connected.values():
        connection.close()


@pytest.mark.promise("More peers than open files wait, and disturb no other")
def test_more_peers_than_open_files_are_allowed_for_wait_and_disturb_no_other(
    hosts: tuple[Host, Host], crowd: Crowd, tmp_path: Path
) -> None:
    gateway = serve(hosts[0], tmp_path, ("prlimit", f"--nofile={N_FILES}:{N_FILES}", *FASTUN))
    crowd.dial(list(range(N_PEERS)))
    n_connected = len(crowd.connected)
    assert N_PEERS / 4 < n_connected < N_PEERS
    # What is left is enough for scrapes, and to replace workers; tun-writers end no link.
    killed = kill_worker(gateway, "tun-writer")
    wait_until(
        lambda: is_replaced(gateway, "tun-writer", killed) and is_healthy(gateway),
        "it is replaced",
        timeout_s=15,
    )
    scrape = gateway.scrape()
    assert crowd.n_open() == n_connected == scrape.total("fastun_peer_up")
    assert scrape.total("fastun_worker_restarts_total") == 1
    assert psutil.Process(gateway.process.pid).num_fds() <= N_FILES - descriptors.SPARE + 10
    # Who waits finds room when others go.
    waiting = [n for n in range(N_PEERS) if n not in crowd.connected][:5]
    for n in list(crowd.connected)[:5]:
        crowd.leave(n)
    wait_until(lambda: gateway.scrape().total("fastun_peer_up") == n_connected - 5, "they went")
    crowd.dial(waiting)
    assert len(crowd.connected) == n_connected
    log = "\n".join(gateway.log_tail(1000))
    assert log.count("too many open files") == 1
    assert "Traceback" not in log
    assert gateway.stop() == 0


# -- one peer ---------------------------------------------------------------------------------


def test_the_soft_limit_is_raised_for_the_gateway_and_its_workers(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    with limited_to(512):
        gateway = serve(hosts[0], tmp_path)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert limits_of(gateway.process.pid) == (min(descriptors.WANTED, hard), hard)
    for role in ROLES:
        soft, hard = limits_of(worker_pid(gateway, role))
        assert soft == hard
        assert (soft >= PEER_SLOTS) == (role != "tun-writer")
    assert gateway.stop() == 0


@pytest.mark.promise(
    "A worker without a descriptor left ends the link that needs one, and no other"
)
@pytest.mark.parametrize("role", ["link-reader", "link-writer", "tun-reader"])
def test_a_worker_that_cannot_take_a_link_ends_it_and_lives(
    hosts: tuple[Host, Host], tmp_path: Path, role: str
) -> None:
    inside, outside = hosts
    gateway = serve(inside, tmp_path)
    pid = worker_pid(gateway, role)
    _, hard = limits_of(pid)
    taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208 (numbers)
    lowest_free = min(set(range(1000)) - taken)
    limit(pid, lowest_free)
    with contextlib.ExitStack() as stack:
        file = add_peer(gateway, "client", SERVER_OUTER)
        client = start_gateway(outside, tmp_path, "connect", str(file), wire="wireguard")
        stack.callback(client.stop)
        said = "a worker has too many open files"
        wait_until(lambda: said in "\n".join(gateway.log_tail(1000)), "it is said", timeout_s=20)
        assert not answers_ping(outside, SERVER_INNER)
        limit(pid, hard)
        wait_until(lambda: answers_ping(outside, SERVER_INNER), "the link", timeout_s=20)
        assert gateway.scrape().total("fastun_worker_restarts_total") == 0
    assert gateway.stop() == 0
