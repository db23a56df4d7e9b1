"""What docs/fleet.md says in figures: three gateways, many adds at once, ten thousand peers.

By hand (make soak): the figures are for docs/performance.md.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun.fleet.postgres import PostgresDirectory
from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import start_gateway
from fastun.peers.peer import Peer
from tests.support.fleet import scene as fleet_scene
from tests.support.fleet_change import until_answered_s
from tests.support.postgres import cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.figures import Figures
    from tests.support.fleet import FleetScene

pytestmark = pytest.mark.soak

INNER = "10.99.0.1"
N_ADDS, AT_ONCE = 200, 12
N_PEERS = 10_000


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetScene]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with cluster() as running, Lab() as lab:
        made = fleet_scene(lab, tmp_path_factory.mktemp("fleet"), running, 3)
        made.gateways.extend(made.start(number) for number in range(3))
        yield made


# Each add is `fastun peer add` in a process of its own, forked: only the imports are made once.
ADD = """
import io, multiprocessing, sys
from pathlib import Path
from fastun.command import peers
from fastun.fleet import postgres
import psycopg

def add(n):
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    peers.add(f"c{n}", ("udp://vpn.example.net",), (), "toml", Path(sys.argv[1 + n % 3]))

if __name__ == "__main__":
    n_adds, at_once = map(int, sys.argv[4:])
    with multiprocessing.get_context("fork").Pool(at_once, maxtasksperchild=1) as pool:
        pool.map(add, range(n_adds), chunksize=1)
"""


@pytest.mark.promise("Peers added on three gateways at once have as many addresses")
def test_two_hundred_adds_on_three_gateways_give_as_many_addresses(
    fleet: FleetScene, figures: Figures
) -> None:
    began_s = time.monotonic()
    states = [str(fleet.state(number)) for number in range(3)]
    command = [sys.executable, "-c", ADD, *states, str(N_ADDS), str(AT_ONCE)]
    subprocess.run(command, check=True, timeout=80)
    lasted_s = time.monotonic() - began_s
    with PostgresDirectory(fleet.url) as directory:
        addresses = [prefix for peer in directory.peers() for prefix in peer.allowed_ips]
    assert len(addresses) == len({*addresses}) == N_ADDS
    began_s = time.monotonic()
    fleet.wait_known({f"c{n}" for n in range(N_ADDS)})
    behind_s = time.monotonic() - began_s
    figures.total("peers", N_ADDS)
    figures.worst("on all gateways after", behind_s, "s")
    print(f"{N_ADDS} adds in {lasted_s:.1f} s; on all gateways {behind_s:.2f} s later")  # noqa: T201


@pytest.mark.promise("A peer may connect to all gateways within 1 s, and is cut off within 2 s")
def test_a_change_is_on_all_gateways_within_a_second_and_a_removal_cuts_off(
    fleet: FleetScene, figures: Figures
) -> None:
    delays_s = []
    for n in range(10):
        with PostgresDirectory(fleet.url) as directory:
            directory.add(peer(n))
            began_s = time.monotonic()
        for number in range(3):
            wait_until(lambda number=number, n=n: f"p{n}" in fleet.known(number),  # type: ignore[misc]
                       "the peer")  # fmt: skip
        delays_s.append(time.monotonic() - began_s)
    file = fleet.connect("laptop", 0)
    fleet.wait_known({"laptop", *(f"p{n}" for n in range(10))})
    start_gateway(fleet.client, fleet.directory, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_ping(fleet.client, INNER), "the tunnel", timeout_s=20)
    with PostgresDirectory(fleet.url) as directory:
        directory.remove("laptop")
        began_s = time.monotonic()
    wait_until(lambda: "down" in fleet.gateways[0].log_file.read_text(), "cut off")
    cut_s = time.monotonic() - began_s
    delays_s.sort()
    figures.worst("known everywhere after", delays_s[-1], "s")
    figures.worst("cut off after", cut_s, "s")
    print(f"known everywhere: median {delays_s[5]:.3f} s, most {delays_s[-1]:.3f} s; cut off after {cut_s:.3f} s")  # noqa: E501, T201  # fmt: skip
    assert delays_s[-1] < 1
    assert cut_s < 2


def peer(n: int, key: bytes | None = None) -> Peer:
    network = ip_network(f"10.{100 + (n >> 14)}.{(n >> 6) & 255}.{(n & 63) * 4}/32")
    key = key or secrets.token_bytes(32)
    return Peer(name=f"p{n}", public_key=key, allowed_ips=(network,))


def test_ten_thousand_peers(fleet: FleetScene) -> None:
    peers = [peer(n) for n in range(N_PEERS)]
    names = [each.name for each in peers]
    with PostgresDirectory(fleet.url) as directory:
        with directory.changes():  # as another program does it; through `peer add` it takes minutes
            directory.connection.execute(
                "INSERT INTO peer (name, public_key) SELECT * FROM unnest(%s::text[], %s::bytea[])",
                (names, [each.public_key for each in peers]),
            )
            directory.connection.execute(
                "INSERT INTO allowed_ip SELECT prefix, name, 0"
                " FROM unnest(%s::cidr[], %s::text[]) AS given (prefix, name)",
                ([str(*each.allowed_ips) for each in peers], names),
            )
        began_s = time.monotonic()
    wait_until(lambda: len(fleet.known(0)) == N_PEERS, "all of them", timeout_s=60)
    filled_s = time.monotonic() - began_s
    fleet.gateways[0].stop()
    began_s = time.monotonic()
    fleet.gateways[0] = fleet.start(0)
    started_s = time.monotonic() - began_s
    with PostgresDirectory(fleet.url) as directory:
        delays_s = sorted(
            until_answered_s(fleet, 0, lambda key, n=n: directory.add(peer(n, key)))  # type: ignore[misc]
            for n in range(N_PEERS, N_PEERS + 20)
        )
    print(f"{N_PEERS} peers: copied in {filled_s:.2f} s, start {started_s:.2f} s")  # noqa: T201
    print(f"one more may connect after {delays_s[10]:.3f} s, most {delays_s[-1]:.3f} s")  # noqa: T201
    for process in psutil.process_iter(["cmdline", "memory_full_info"]):
        if (process.info["cmdline"] or [""])[0].startswith("fastun: fleet"):
            print(f"fastun: fleet {process.info['memory_full_info'].pss / 2**20:.1f} MiB")  # noqa: T201
    assert delays_s[10] < 0.1
