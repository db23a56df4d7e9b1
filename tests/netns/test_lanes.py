"""A server with four lanes, and clients of one and of three.

server   ===veth===  ant, bee (tcp), cat, cow (udp), dog (tcp), elk (udp), each a host of its own
  lane 0: ant, dog's first connection    lane 2: cat, dog's third
  lane 1: bee, dog's second, elk         lane 3: cow
dog and elk have three lanes, the others one.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN, GatewayProcess, add_peer, start_gateway
from fastun.native import ROLES
from tests.support.lanes_at_once import AT_ONCE
from tests.support.lanes_load import status_of
from tests.support.lanes_seen import (
    assert_each_lane_adds_up,
    handshakes_of,
    link_of,
    n_connections,
    packets_by_lane,
    restarts_of,
)
from tests.support.numbered import echoing
from tests.support.processes import find_worker, kill_worker
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.tunnel import Transport

SERVER_INNER = "10.99.0.1"
CLIENTS: dict[str, Transport] = {
    "ant": "tcp",
    "bee": "tcp",
    "cat": "udp",
    "cow": "udp",
    "dog": "tcp",
    "elk": "udp",
}
N_LANES = 4
N_OF_DOG = 3
OF_SEVERAL = {"dog": ("--lanes", str(N_OF_DOG)), "elk": ("--lanes", "3")}
OF_ONE = ("ant", "bee", "cat", "cow")  # by lane


class Network(NamedTuple):
    server: GatewayProcess
    clients: dict[str, GatewayProcess]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    directory = tmp_path_factory.mktemp("lanes")
    with Lab() as lab:
        host = lab.host("server")
        listen = ("--listen", "tcp://0.0.0.0:55555", "--listen", "udp://0.0.0.0:51820")
        server = start_gateway(
            host,
            directory,
            "serve",
            *listen,
            *("--lanes", str(N_LANES)),
            wire="wireguard",
            addresses=[f"{SERVER_INNER}/24"],
            program=AT_ONCE,
        )
        clients = {}
        for n, (name, transport) in enumerate(CLIENTS.items(), 1):
            client = lab.host(name)
            lab.wire(host, client, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
            file = add_peer(server, name, f"10.0.{n}.1", transport)
            arguments = OF_SEVERAL.get(name, ())
            clients[name] = start_gateway(
                client,
                directory,
                "connect",
                str(file),
                *arguments,
                wire="wireguard",
                program=AT_ONCE,
            )
        for client in clients.values():
            wait_until(lambda c=client: answers_ping(c.host, SERVER_INNER), "up", timeout_s=20)
        yield Network(server, clients)


def inner(name: str) -> str:
    return f"10.99.0.{2 + list(CLIENTS).index(name)}"


def test_all_clients_transfer_both_ways_and_every_lane_carries_some(network: Network) -> None:
    transfers = []
    for n, (name, client) in enumerate(network.clients.items()):
        there = (client.host, network.server.host, SERVER_INNER)
        back = (network.server.host, client.host, inner(name))
        transfers.append(start_transfer(*there, n_bytes=10**7, port=7000 + n))
        transfers.append(start_transfer(*back, n_bytes=10**7, port=7100 + n))
    assert all(transfer.result(timeout=60).is_exact for transfer in transfers)
    scrape = network.server.scrape()
    for lane in range(N_LANES):
        for role in ROLES:
            assert scrape.total("fastun_packets_total", role=role, lane=str(lane)) > 100
    assert scrape.total("fastun_crossed_packets_total") > 0
    assert_each_lane_adds_up(network.server)


@pytest.mark.promise("A killed worker costs the peers of the other lanes nothing")
@pytest.mark.parametrize("lane", range(N_LANES))
def test_workers_killed_in_a_lane_cost_the_peers_of_the_others_nothing(
    network: Network, lane: int
) -> None:
    """What each of the others sends, numbered, and its echoes pass by its own lane alone."""
    server, under_load = network.server, network.clients[OF_ONE[lane]]
    others = [network.clients[name] for name in OF_ONE if name != OF_ONE[lane]]
    before = {name: link_of(server, name) for name in OF_ONE if name != OF_ONE[lane]}
    restarts = [restarts_of(server, each) for each in range(N_LANES)]
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(echoing(server.host, SERVER_INNER))
        exchanges = [stack.enter_context(Exchange(each.host, port)) for each in others]
        transfer = start_transfer(under_load.host, server.host, SERVER_INNER, n_bytes=2 * 10**7)
        for role in ROLES:
            n_exchanged = [each.n for each in exchanges]
            pid = kill_worker(server, f"{role}/{lane}")
            wait_until(
                lambda r=role, p=pid: find_worker(server, f"{r}/{lane}") not in (None, p),
                "a successor",
            )
            wait_until(
                lambda was=n_exchanged: all(
                    each.failed is not None or each.n > n + 100
                    for each, n in zip(exchanges, was, strict=True)
                ),
                "the others go on",
                timeout_s=20,
            )
        assert transfer.result(timeout=60).is_exact
    assert [each.failed for each in exchanges] == [None] * len(others)
    assert {name: link_of(server, name) for name in before} == before
    restarts[lane] += len(ROLES)
    assert [restarts_of(server, each) for each in range(N_LANES)] == restarts
    assert_each_lane_adds_up(server)


def test_a_peer_that_is_removed_is_gone_from_every_lane(network: Network) -> None:
    server, cat = network.server, network.clients["cat"]
    assert answers_ping(cat.host, SERVER_INNER)
    server.host.run(*FASTUN, "peer", "disable", "cat", "--state", str(server.log_file.parent))
    wait_until(lambda: not answers_ping(cat.host, SERVER_INNER), "cat is out")
    server.host.run(*FASTUN, "peer", "enable", "cat", "--state", str(server.log_file.parent))
    wait_until(lambda: answers_ping(cat.host, SERVER_INNER), "cat is back", timeout_s=20)
    assert all(answers_ping(each.host, SERVER_INNER) for each in network.clients.values())


def test_a_peer_on_udp_is_in_its_lane_and_keeps_its_session_over_a_kill(network: Network) -> None:
    server, cow, lane = network.server, network.clients["cow"], OF_ONE.index("cow")
    before, handshakes = packets_by_lane(server, "tun-writer", N_LANES), handshakes_of(server)
    for role in ROLES:
        transfer = start_transfer(cow.host, server.host, SERVER_INNER, n_bytes=3 * 10**6)
        pid = kill_worker(server, f"{role}/{lane}")
        wait_until(
            lambda r=role, p=pid: find_worker(server, f"{r}/{lane}") not in (None, p), "a successor"
        )
        assert transfer.result(timeout=60).is_exact
    after = packets_by_lane(server, "tun-writer", N_LANES)
    carried = [now - was for now, was in zip(after, before, strict=True)]
    assert carried.pop(lane) > 1000
    assert max(carried) < 100
    assert handshakes_of(server) == handshakes
    assert_each_lane_adds_up(server)


# -- a connection a lane ----------------------------------------------------------------------


def test_a_client_of_several_lanes_has_a_connection_in_each_that_both_have(
    network: Network,
) -> None:
    server, dog = network.server, network.clients["dog"]
    wait_until(lambda: n_connections(dog) == N_OF_DOG, "all connections")
    (peer,) = (each for each in status_of(server)["peers"] if each["name"] == "dog")
    assert peer["link"]["lanes"] == list(range(N_OF_DOG))
    before = packets_by_lane(server, "link-reader", N_LANES)
    flows = [
        start_transfer(dog.host, server.host, SERVER_INNER, n_bytes=10**6, port=7200 + n)
        for n in range(16)
    ]
    assert all(flow.result(timeout=60).is_exact for flow in flows)
    carried = [
        now - was
        for now, was in zip(packets_by_lane(server, "link-reader", N_LANES), before, strict=True)
    ]
    print(carried)  # noqa: T201
    assert min(carried[:N_OF_DOG]) > sum(carried) / 12
    assert_each_lane_adds_up(server)
    assert_each_lane_adds_up(dog)


@pytest.mark.parametrize("lane", range(N_OF_DOG))
def test_of_a_client_of_several_lanes_one_may_end_and_the_peer_is_up_all_the_time(
    network: Network, lane: int
) -> None:
    server, dog = network.server, network.clients["dog"]
    wait_until(lambda: n_connections(dog) == N_OF_DOG, "all connections")
    before = link_of(server, "dog")
    transfer = start_transfer(dog.host, server.host, SERVER_INNER, n_bytes=2 * 10**7)
    for role in ("link-writer", "link-reader"):
        pid = kill_worker(server, f"{role}/{lane}")
        wait_until(
            lambda r=role, p=pid: find_worker(server, f"{r}/{lane}") not in (None, p), "a successor"
        )
        wait_until(lambda: n_connections(dog) == N_OF_DOG, "all connections again")
    assert transfer.result(timeout=60).is_exact
    assert link_of(server, "dog") == before
    assert_each_lane_adds_up(server)


class Exchange:
    """Numbered datagrams, each of which has to come back before the next. A context manager."""

    def __init__(self, host: Host, port: int) -> None:
        self._our = host.socket(kind=socket.SOCK_DGRAM)
        self._our.connect((SERVER_INNER, port))
        self._our.settimeout(5)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.n = 0
        self.failed: str | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.n > 100, "the kernel knows the flow's queue")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._our.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            number = (self.n + 1).to_bytes(4, "big")
            try:
                self._our.send(number)
                came = self._our.recv(64)
            except OSError as error:
                self.failed = f"number {self.n + 1}: {error}"
                return
            if came != number:
                self.failed = f"number {self.n + 1}: came {came.hex()}"
                return
            self.n += 1
