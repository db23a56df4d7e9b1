"""`fastun drain`: clients go to other gateways of a fleet, and lose no connection inside."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import PORT, UDP_PORT, start_gateway
from tests.support.behind import SERVER, Behind, conversations
from tests.support.fleet import scene as fleet_scene
from tests.support.postgres import cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.tunnel import GatewayProcess
    from tests.support.figures import Figures
    from tests.support.fleet import FleetScene

N_GATEWAYS = 3
N_CONNECTIONS = 5


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetScene]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with cluster() as running, Lab() as lab:
        yield fleet_scene(lab, tmp_path_factory.mktemp("fleet"), running, N_GATEWAYS)


@pytest.fixture(scope="module")
def behind(fleet: FleetScene) -> Iterator[Behind]:
    made = Behind(fleet)
    fleet.gateways.extend(fleet.start(number) for number in range(N_GATEWAYS))
    with made.following():
        yield made


def drain(fleet: FleetScene, number: int, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `fastun drain` for a gateway to its end."""
    run_dir = str(fleet.gateways[number].log_file.parent)
    command = [sys.executable, "-m", "fastun", "drain", "--run-dir", run_dir, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def connected(fleet: FleetScene, name: str, transport: str, *, of: int = 3) -> GatewayProcess:
    """Start a client with an endpoint of each gateway, the first ``of`` them."""
    port = UDP_PORT if transport == "udp" else PORT
    others = [f"{transport}://{fleet.outer(number)}:{port}" for number in range(1, of)]
    more = [text for url in others for text in ("--endpoint", url)]
    file = fleet.connect(name, 0, *more, transport=transport)
    fleet.wait_known({name})
    client = start_gateway(fleet.client, fleet.directory, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_ping(fleet.client, SERVER), "the tunnel", timeout_s=20)
    return client


@pytest.mark.promise(
    "A rolling restart of a fleet's gateways, each drained first, loses no connection inside"
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_rolling_restart_with_drain_loses_no_connection_inside(
    fleet: FleetScene, behind: Behind, transport: str, figures: Figures
) -> None:
    client = connected(fleet, transport, transport)
    with conversations(fleet.client, behind, N_CONNECTIONS) as said:
        for number in range(N_GATEWAYS):
            gateway = fleet.gateways[number]
            done = drain(fleet, number, "--timeout", "30")
            assert done.returncode == 0, done.stderr
            assert done.stdout.splitlines()[-1] == "ft0: drained"
            assert gateway.process.wait(5) == 0
            fleet.gateways[number] = fleet.start(number)
            fleet.wait_known({transport})
    assert [each.failure for each in said] == [None] * N_CONNECTIONS
    figures.worst("longest without an answer", max(each.longest_s for each in said), "s")
    assert client.process.poll() is None
    client.stop()
    fleet.peer(0, "remove", transport)
    fleet.wait_known(set())


def staying(fleet: FleetScene, number: int) -> int:
    now = fleet.status(number).drain
    return 0 if now is None else now.staying


def n_up(fleet: FleetScene, number: int) -> int:
    return sum(peer.up for peer in fleet.status(number).peers)


def n_refused(fleet: FleetScene, number: int) -> float:
    return fleet.gateways[number].scrape().total("fastun_handshakes_total", result="draining")


def test_a_client_without_another_endpoint_stays_and_is_counted_until_the_drain_is_cancelled(
    fleet: FleetScene, behind: Behind
) -> None:
    del behind
    client = connected(fleet, "lonely", "udp", of=1)
    begun = drain(fleet, 0, "--timeout", "300", "--no-wait")
    assert begun.returncode == 0, begun.stderr
    assert begun.stdout.startswith("ft0: 1 of 1 peers left; ends in ")
    wait_until(lambda: staying(fleet, 0) == 1, "it says so", timeout_s=20)
    log = client.log_file.read_text()
    assert "is drained and asks to be left; there is no other endpoint" in log
    code, body = fleet.gateways[0].get("/readyz")
    assert (code, body.strip()) == (503, "draining, 1 of 1 peers left")
    scrape = fleet.gateways[0].scrape()
    assert scrape.total("fastun_draining") == 1
    # A stranger, as far as sessions go: it is not answered.
    host = fleet.lab.host("late")
    fleet.lab.wire(host, fleet.hosts[0], ["10.77.0.2/24"], ["10.77.0.1/24"])
    other = fleet.connect("late", 0)
    other.write_text(other.read_text().replace(fleet.outer(0), "10.77.0.1"))
    fleet.wait_known({"lonely", "late"})
    late = start_gateway(host, fleet.directory, "connect", str(other), wire="wireguard")
    wait_until(lambda: n_refused(fleet, 0) > 0, "it is refused", timeout_s=20)
    assert answers_ping(fleet.client, SERVER)
    cancelled = drain(fleet, 0, "--cancel")
    assert cancelled.returncode == 0, cancelled.stderr
    assert "draining is cancelled" in cancelled.stdout
    wait_until(lambda: n_up(fleet, 0) == 2, "the other connects", timeout_s=30)
    again = drain(fleet, 0, "--cancel")
    assert again.returncode == 2
    assert "nothing to cancel" in again.stderr
    late.stop()
    client.stop()
    for name in ("lonely", "late"):
        fleet.peer(0, "remove", name)
    fleet.wait_known(set())
