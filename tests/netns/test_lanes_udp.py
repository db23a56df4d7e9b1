"""A server with four lanes on UDP, and clients of four, three and one.

server   ===veth===  four, three, one, each a host of its own
  four   dials by four ports, three by three; of one's slot is the server's third lane
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN, GatewayProcess, add_peer, start_gateway
from fastun.native import ROLES
from tests.support.lanes_at_once import AT_ONCE
from tests.support.lanes_load import lanes_of, loaded, wait_for_lanes
from tests.support.lanes_seen import (
    assert_each_lane_adds_up,
    handshakes_of,
    link_of,
)
from tests.support.numbered import echoing, exchange
from tests.support.processes import find_worker, kill_worker
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host

SERVER_INNER = "10.99.0.1"
N_LANES = 4
CLIENTS = {"four": 4, "three": 3, "one": 1}


class Network(NamedTuple):
    server: GatewayProcess
    clients: dict[str, GatewayProcess]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    directory = tmp_path_factory.mktemp("lanes-udp")
    with Lab() as lab:
        host = lab.host("server")
        server = start_gateway(
            host,
            directory,
            "serve",
            *("--listen", "udp://0.0.0.0:51820", "--lanes", str(N_LANES)),
            wire="wireguard",
            addresses=[f"{SERVER_INNER}/24"],
            program=AT_ONCE,
        )
        clients = {}
        for n, (name, n_lanes) in enumerate(CLIENTS.items(), 1):
            client = lab.host(name)
            lab.wire(host, client, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
            file = add_peer(server, name, f"10.0.{n}.1", "udp")
            clients[name] = start_gateway(
                client,
                directory,
                *("connect", str(file), "--lanes", str(n_lanes)),
                wire="wireguard",
                program=AT_ONCE,
            )
        for client in clients.values():
            wait_until(lambda c=client: answers_ping(c.host, SERVER_INNER), "up", timeout_s=20)
        yield Network(server, clients)


def inner(name: str) -> str:
    return f"10.99.0.{2 + list(CLIENTS).index(name)}"


def n_ports(client: GatewayProcess) -> int:
    """How many UDP sockets it has, but for its own host's resolver."""
    return len(client.host.run("ss", "-Huan").stdout.splitlines())


@pytest.mark.parametrize("name", CLIENTS)
def test_ways_open_on_load_as_many_as_both_ends_have_lanes_and_close_when_it_is_over(
    network: Network, name: str
) -> None:
    server, client, n_lanes = network.server, network.clients[name], CLIENTS[name]
    assert len(lanes_of(client)) == len(lanes_of(server, name)) == 1
    assert n_ports(client) == 1
    with loaded(client.host, server.host, SERVER_INNER):
        for gateway in (client, server):
            wait_for_lanes(gateway, n_lanes, name if gateway is server else None)
        there = (client.host, server.host, SERVER_INNER)
        back = (server.host, client.host, inner(name))
        flows = [
            start_transfer(*(there, back)[n % 2], n_bytes=10**6, port=7000 + n) for n in range(8)
        ]
        assert all(flow.result(timeout=60).is_exact for flow in flows)
    assert n_ports(client) == n_lanes
    for gateway in (client, server):
        assert_each_lane_adds_up(gateway)
        wait_for_lanes(gateway, 1, name if gateway is server else None, timeout_s=60)
    assert answers_ping(client.host, SERVER_INNER)


@pytest.mark.promise("A killed worker of any lane costs a peer on UDP no session")
@pytest.mark.parametrize("lane", [0, 2])
@pytest.mark.parametrize("side", ["client", "server"])
def test_workers_killed_in_a_lane_leave_the_session_and_the_ways(
    network: Network, side: str, lane: int
) -> None:
    server, client = network.server, network.clients["four"]
    killed = client if side == "client" else server
    with loaded(client.host, server.host, SERVER_INNER):
        wait_for_lanes(client, N_LANES)
        before, handshakes = link_of(server, "four"), handshakes_of(server)
        transfer = start_transfer(client.host, server.host, SERVER_INNER, n_bytes=10**7)
        for role in ROLES:
            pid = kill_worker(killed, f"{role}/{lane}")
            wait_until(
                lambda r=role, p=pid: find_worker(killed, f"{r}/{lane}") not in (None, p), "another"
            )
        assert transfer.result(timeout=60).is_exact
        wait_for_lanes(client, N_LANES)
        wait_for_lanes(server, N_LANES, "four")
    assert link_of(server, "four") == before
    assert handshakes_of(server) - handshakes < len(ROLES)  # each client's rekey may be due
    assert_each_lane_adds_up(server)
    assert_each_lane_adds_up(client)


def test_a_peer_that_gets_a_rate_limit_has_one_lane_and_several_when_it_has_none(
    network: Network,
) -> None:
    server, client = network.server, network.clients["three"]

    def limit(*words: str) -> None:
        server.host.run(*FASTUN, "peer", "limit", *words, "--state", str(server.log_file.parent))

    with loaded(client.host, server.host, SERVER_INNER):
        wait_for_lanes(server, 3, "three")
        limit("three", "--outbound", "400Mbit")
        wait_for_lanes(server, 1, "three")
        wait_for_lanes(client, 1)
        with echoing(server.host, SERVER_INNER) as port:
            check_echoes(client.host, port)


def check_echoes(host: Host, port: int) -> None:
    with host.socket(kind=socket.SOCK_DGRAM) as our:
        our.connect((SERVER_INNER, port))
        our.settimeout(5)
        exchange(our, 100)


def test_a_peer_that_is_removed_is_gone_from_all_its_lanes(network: Network) -> None:
    server, client = network.server, network.clients["four"]
    with loaded(client.host, server.host, SERVER_INNER):
        wait_for_lanes(server, N_LANES, "four")
        server.host.run(*FASTUN, "peer", "disable", "four", "--state", str(server.log_file.parent))
        wait_until(lambda: not answers_ping(client.host, SERVER_INNER), "it is out")
        server.host.run(*FASTUN, "peer", "enable", "four", "--state", str(server.log_file.parent))
        wait_until(lambda: answers_ping(client.host, SERVER_INNER), "it is back", timeout_s=30)
        wait_for_lanes(server, N_LANES, "four")
        wait_for_lanes(client, N_LANES)
    assert_each_lane_adds_up(server)
