"""Many clients at once, and ten of them for long.

A server with a thousand peers: tests/support/known_peers.py. The ten are hosts of their own, each
with fastun connect: server ===veth=== c1 .. c10.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import add_peer, start_gateway
from tests.support.compressed_time import gateway_with
from tests.support.known_peers import Server
from tests.support.processes import processes
from tests.support.scrapes import drops
from tests.support.steady_pings import EVERY_S, SteadyPings

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess
    from tests.support.figures import Figures

STORM_S = 60.0
AT_ONCE = 32

# WireGuard's timers (docs/protocol.md), sixty times as fast.
SIXTY = 60.0
SIXTYFOLD = gateway_with(
    rekey_after_time_s=120 / SIXTY,
    reject_after_time_s=180 / SIXTY,
    rekey_attempt_time_s=90 / SIXTY,
    rekey_timeout_s=5 / SIXTY,
    keepalive_timeout_s=10 / SIXTY,
    jitter_s=1 / 3 / SIXTY,
)
N_CLIENTS = 10
MINUTES = float(os.environ.get("FASTUN_SOAK_MINUTES", "60"))
LOOK_S = 5.0
SERVER_INNER = "10.99.0.1"


def memory_bytes(gateway: GatewayProcess) -> int:
    """Return what its processes take of this machine, each shared page once."""
    return sum(psutil.Process(pid).memory_full_info().pss for pid in processes(gateway))


@pytest.mark.promise("1,000 clients that connect at once are all connected within 60 s")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "n_clients", [pytest.param(60, id="60"), pytest.param(1000, id="1000", marks=pytest.mark.soak)]
)
def test_a_storm_of_clients_is_served(
    lab: Lab, tmp_path: Path, n_clients: int, figures: Figures
) -> None:
    server = Server(lab, tmp_path, 1000)
    before_bytes, begun_s = memory_bytes(server.gateway), time.monotonic()

    def connect(n: int) -> None:
        while not server.connect(n):
            assert time.monotonic() - begun_s < STORM_S, f"client {n} is still refused"
            time.sleep(0.2)

    with ThreadPoolExecutor(AT_ONCE) as storm:
        list(storm.map(connect, range(n_clients)))
    wait_until(lambda: server.n_up() == n_clients, "all links", timeout_s=STORM_S, interval_s=0.2)
    took_s = time.monotonic() - begun_s
    each_bytes = (memory_bytes(server.gateway) - before_bytes) / n_clients
    figures.worst(f"{n_clients:,} after", took_s, "s")
    figures.worst("memory a peer", each_bytes / 1024, "KiB")
    assert took_s < STORM_S
    server.end_all()
    assert server.gateway.stop(timeout_s=10) == 0


def rises(values: list[float]) -> float:
    """Return by how much the last third is above the middle one: what is filled once has been."""
    third = len(values) // 3
    return statistics.median(values[-third:]) - statistics.median(values[third:-third])


@pytest.mark.promise(
    "Ten clients with new keys every 2 s lose no packet, however long, and take no more memory"
)
@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 300)
def test_ten_clients_stay_for_long(lab: Lab, tmp_path: Path, figures: Figures) -> None:
    host = lab.host("server")
    server = start_gateway(
        host, tmp_path, "serve", wire="wireguard", addresses=["10.99.0.1/24"], program=SIXTYFOLD
    )
    clients = []
    for n in range(1, N_CLIENTS + 1):
        client_host = lab.host(f"c{n}")
        lab.wire(host, client_host, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
        file = str(add_peer(server, f"client{n}", f"10.0.{n}.1", "udp" if n % 2 else "tcp"))
        clients.append(
            start_gateway(
                client_host, tmp_path, "connect", file, wire="wireguard", program=SIXTYFOLD
            )
        )
    for client in clients:
        wait_until(
            lambda at=client.host: answers_ping(at, SERVER_INNER), client.host.name, timeout_s=30
        )
    pings = [
        SteadyPings(
            client.host,
            SERVER_INNER,
            int(MINUTES * 60 / EVERY_S),
            tmp_path / client.host.name / "ping",
        )
        for client in clients
    ]
    memory, files = list[float](), list[float]()
    while any(each.is_running() for each in pings):
        time.sleep(LOOK_S)
        memory.append(memory_bytes(server) / 1024)
        files.append(sum(psutil.Process(pid).num_fds() for pid in processes(server)))
    n_sent = sum(each.n_sent for each in pings)
    lost = {
        client.host.name: each.lost()
        for client, each in zip(clients, pings, strict=True)
        if each.lost()
    }
    n_lost = sum(map(len, lost.values()))
    n_rekeys = sum(client.scrape().total("fastun_rekeys_total") for client in clients)
    growth_kib = rises(memory)
    print(f"{n_rekeys:.0f} rekeys, {n_lost} of {n_sent} lost, {growth_kib:+.0f} KiB, {files[-1]}")  # noqa: T201
    print(*(f"{value:.0f}" for value in memory))  # noqa: T201
    for gateway in (server, *clients):
        print(gateway.host.name, drops(gateway.scrape()), lost.get(gateway.host.name, ""))  # noqa: T201
    figures.worst("minutes", MINUTES, "")
    figures.total("new keys", n_rekeys)
    figures.total("packets lost", n_lost)
    figures.worst("memory more at the end", max(0.0, growth_kib), "KiB")
    figures.worst("descriptors more at the end", max(0.0, rises(files)), "")
    assert n_rekeys > MINUTES * N_CLIENTS * 20
    assert not lost
    assert growth_kib < max(1024, 0.02 * memory[-1])
    assert rises(files) <= 0
    for gateway in (*clients, server):
        assert gateway.stop(timeout_s=10) == 0
