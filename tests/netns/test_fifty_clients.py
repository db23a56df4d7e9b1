"""Fifty clients on one server at once: 250 processes, so this is for `make soak`.

server  ===veth===  c1 .. c50, each a host of its own with fastun connect
"""

from __future__ import annotations

import contextlib
import signal
import statistics
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping, ping
from fastun.lab.tunnel import GatewayProcess, add_peer, start_gateway
from tests.support.hijacked import held
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

N_CLIENTS = 50
N_FROZEN = 10
FIFTY_MEGABYTES = 50 * 10**6
SERVER_INNER = "10.99.0.1"
AT_ONCE = 10  # started or transferring at once: two cores have to serve both ends of all


@pytest.fixture
def crowd(lab: Lab, tmp_path: Path) -> tuple[Host, GatewayProcess, list[GatewayProcess]]:
    """The server and its fifty clients, all connected."""
    host = lab.host("server")
    server = start_gateway(host, tmp_path, "serve", wire="wireguard", addresses=["10.99.0.1/24"])
    wait_until(lambda: host.listens(55555), "the server listens", timeout_s=15)
    clients = []
    for n in range(1, N_CLIENTS + 1):
        client_host = lab.host(f"c{n}")
        lab.wire(host, client_host, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
        file = add_peer(server, f"client{n}", f"10.0.{n}.1")
        clients.append(start_gateway(client_host, tmp_path, "connect", str(file), wire="wireguard"))
        if n % AT_ONCE == 0:
            for client in clients:
                wait_for(client)
    return host, server, clients


def wait_for(client: GatewayProcess) -> None:
    wait_until(lambda: answers_ping(client.host, SERVER_INNER), "a client", timeout_s=60)


def inner_address(n: int) -> str:
    return f"10.99.0.{n + 2}"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_fifty_clients_ping_move_fifty_megabytes_each_and_reach_each_other(
    crowd: tuple[Host, GatewayProcess, list[GatewayProcess]],
) -> None:
    host, server, clients = crowd
    assert server.scrape().total("fastun_peer_up") == N_CLIENTS
    for client in clients:
        assert ping(client.host, SERVER_INNER, n=3).n_received == 3
    transfers = [
        start_transfer(client.host, host, SERVER_INNER, n_bytes=FIFTY_MEGABYTES, port=7000 + n)
        for n, client in enumerate(clients)
    ]
    assert all(transfer.result(timeout=300).is_exact for transfer in transfers)
    host.sysctl("net.ipv4.ip_forward", 1)
    across = start_transfer(
        clients[0].host, clients[-1].host, inner_address(N_CLIENTS - 1), n_bytes=FIFTY_MEGABYTES
    )
    assert across.result(timeout=60).is_exact


@pytest.mark.promise(
    "Ten clients of fifty that do not read leave the others nine tenths of their goodput"
)
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_ten_frozen_clients_leave_the_other_forty_nine_tenths_of_their_goodput(
    crowd: tuple[Host, GatewayProcess, list[GatewayProcess]],
) -> None:
    host, server, clients = crowd
    frozen, others = clients[:N_FROZEN], clients[N_FROZEN:]

    def goodput() -> float:
        """Bytes a second to all others, which transfer at the same time."""
        started = time.monotonic()
        transfers = [
            start_transfer(host, client.host, inner_address(n), n_bytes=4 * 10**7, port=7000 + n)
            for n, client in enumerate(others, start=N_FROZEN)
        ]
        n_bytes = sum(transfer.result(timeout=300).received.n_bytes for transfer in transfers)
        return n_bytes / (time.monotonic() - started)

    def link_readers() -> list[psutil.Process]:
        return [
            child
            for client in frozen
            for child in psutil.Process(client.process.pid).children()
            if "link-reader" in child.cmdline()[0]
        ]

    def ping_frozen(interval_s: float, seconds: float) -> None:
        """Send to the ten: answered while they read, else what fills their sockets and queues."""
        floods = [
            host.spawn("ping", "-i", str(interval_s), "-q", "-s", "60000", inner_address(n))
            for n in range(N_FROZEN)
        ]
        time.sleep(seconds)
        for flood in floods:
            flood.send_signal(signal.SIGINT)

    rounds: dict[str, list[float]] = {"reading": [], "frozen": []}
    for _ in range(3):
        rounds["reading"].append(goodput())
        with contextlib.ExitStack() as frozen_now:
            for process in link_readers():
                frozen_now.enter_context(held(process.pid))
            ping_frozen(0.002, 4)  # from here on their queues are full
            rounds["frozen"].append(goodput())
        time.sleep(3)
    dropped = sum(
        server.scrape().total("fastun_peer_dropped_packets_total", peer=f"client{n + 1}")
        for n in range(N_FROZEN)
    )
    assert dropped > 0
    ratio = statistics.median(rounds["frozen"]) / statistics.median(rounds["reading"])
    print(f"goodput of the forty, ten frozen / none frozen: {ratio:.2f}")  # noqa: T201
    assert ratio >= 0.9
