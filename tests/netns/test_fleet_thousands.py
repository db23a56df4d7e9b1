"""A thousand connected of ten thousand in a fleet's directory: start, a change, memory, CPU.

client host, 10.1.0.0/16 all its own          gateway of a fleet, PostgreSQL
a socket for each client  ======= wire =====  fastun serve

By hand (make soak), on a machine with nothing else to do: the figures are for docs/fleet.md.
"""

from __future__ import annotations

import threading
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun.fleet.postgres import PostgresDirectory
from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.tunnel import PORT
from fastun.peers.peer import Peer
from fastun.session import keys
from tests.support.fleet import scene as fleet_scene
from tests.support.fleet_change import until_answered_s
from tests.support.known_peers import Server
from tests.support.postgres import cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.session.keys import KeyPair
    from tests.support.fleet import FleetScene

pytestmark = pytest.mark.soak

N_PEERS, N_CONNECTED = 10_000, 1000
IDLE_S = 20


class Clients(Server):
    """Those of a fleet's only gateway."""

    def __init__(self, fleet: FleetScene, pairs: list[KeyPair]) -> None:
        """Connect none yet."""
        self.client, self.pairs = fleet.client, pairs
        self.key = keys.public_of(keys.load_private(fleet.state(0) / "private.key"))
        self.gateway = fleet.gateways[0]
        self.address = (fleet.outer(0), PORT)
        self.connections = []
        self._handshaking = threading.Lock()
        fleet.hosts[0].ip("route", "add", "10.1.0.0/16", "via", "10.0.1.2")
        self.client.ip("route", "add", "local", "10.1.0.0/16", "dev", "lo")


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetScene]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with cluster() as running, Lab() as lab:
        yield fleet_scene(lab, tmp_path_factory.mktemp("fleet"), running, 1)


def fill(fleet: FleetScene, pairs: list[KeyPair]) -> None:
    """Have them in the directory, as another program does it."""
    names = [f"client{n}" for n in range(len(pairs))]
    prefixes = [f"10.200.{n // 250}.{n % 250 + 1}/32" for n in range(len(pairs))]
    with PostgresDirectory(fleet.url) as directory, directory.changes():
        directory.connection.execute(
            "INSERT INTO peer (name, public_key) SELECT * FROM unnest(%s::text[], %s::bytea[])",
            (names, [pair.public for pair in pairs]),
        )
        directory.connection.execute(
            "INSERT INTO allowed_ip SELECT prefix, name, 0"
            " FROM unnest(%s::cidr[], %s::text[]) AS given (prefix, name)",
            (prefixes, names),
        )


def of_gateway(fleet: FleetScene) -> list[psutil.Process]:
    parent = psutil.Process(fleet.gateways[0].process.pid)
    return [parent, *parent.children(recursive=True)]


def name_of(process: psutil.Process) -> str:
    title = process.cmdline()[0]
    return (
        title.removeprefix("fastun: ").split("/")[0] if title.startswith("fastun: ") else "gateway"
    )


def test_a_thousand_connected_of_ten_thousand(fleet: FleetScene) -> None:
    pairs = [keys.pair_of(keys.generate_private()) for _ in range(N_PEERS)]
    fill(fleet, pairs)
    fleet.gateways.append(fleet.start(0))
    wait_until(lambda: len(fleet.known(0)) == N_PEERS, "all of them", timeout_s=90)
    fleet.gateways[0].stop()
    began_s = time.monotonic()
    fleet.gateways[0] = fleet.start(0)
    started_s = time.monotonic() - began_s
    clients = Clients(fleet, pairs)
    began_s = time.monotonic()
    clients.wave(0, N_CONNECTED, 120)
    connected_s = time.monotonic() - began_s
    wait_until(lambda: clients.n_up() == N_CONNECTED, "all links", timeout_s=30)

    def routes() -> int:
        shown = fleet.hosts[0].ip("-4", "route", "show", "proto", "157")
        return sum("metric 10" in line for line in shown.splitlines())

    wait_until(lambda: routes() == N_CONNECTED, "a route to each", timeout_s=30)
    with PostgresDirectory(fleet.url) as directory:

        def add(n: int, key: bytes) -> None:
            network = ip_network(f"10.250.0.{n}/32")
            directory.add(Peer(name=f"more{n}", public_key=key, allowed_ips=(network,)))

        delays_s = sorted(until_answered_s(fleet, 0, lambda key, n=n: add(n, key))  # type: ignore[misc]
                          for n in range(1, 21))  # fmt: skip
    before = {each.pid: sum(each.cpu_times()[:2]) for each in of_gateway(fleet)}
    time.sleep(IDLE_S)
    print(f"start {started_s:.2f} s; {N_CONNECTED} connected in {connected_s:.1f} s")  # noqa: T201
    print(f"one more may connect after {delays_s[10]:.3f} s, most {delays_s[-1]:.3f} s")  # noqa: T201
    for process in of_gateway(fleet):
        used = (sum(process.cpu_times()[:2]) - before[process.pid]) / IDLE_S
        pss = process.memory_full_info().pss / 2**20
        print(f"{name_of(process)}: {pss:.1f} MiB, {used:.1%} of a core")  # noqa: T201
    assert clients.n_up() == N_CONNECTED
    assert delays_s[10] < 0.1
    assert started_s < 3
    clients.end_all()
