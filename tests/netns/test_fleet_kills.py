"""Gateways of three are killed or restarted in turn; clients have connections inside all the time.

Killed alone it leaves a host that answers for it; unplugged with its host, as by a power cut, it
leaves nothing. By hand (make soak): it needs PostgreSQL, and BIRD or FRR.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN
from tests.support.fleet_site import N_GATEWAYS, SERVER, site, wired
from tests.support.inner_streams import InnerStreams
from tests.support.postgres import cluster
from tests.support.routing_recipes import Bird, Frr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.figures import Figures
    from tests.support.fleet_site import Site

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

CLIENTS = ("udp1", "udp2", "udp3", "tcp1", "tcp2", "tcp3")
LIMIT_S = 3.0
# After a move a client takes its time again (liveness.py).
BETWEEN_S = 5.0


@pytest.fixture(params=[Bird, Frr])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, InnerStreams]]:
    """A site with its clients connected, and connections inside each tunnel."""
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    recipe = request.param()
    with cluster() as database, Lab() as lab:
        made = site(lab, wired(lab, CLIENTS), tmp_path, database, recipe)
        for number, name in enumerate(CLIENTS):
            made.add_client(number, name[:3], number % N_GATEWAYS)
        for client in made.clients:
            wait_until(lambda client=client: answers_ping(client.host, SERVER),  # type: ignore[misc]
                       "the way to the server", timeout_s=30)  # fmt: skip
        with InnerStreams(made.site.server, SERVER) as streams:
            for client in made.clients:
                streams.connect(client.host)
            streams.begin()
            yield made, streams
    recipe.close()


@pytest.mark.promise(
    "With one gateway of three killed, connections inside go on by another within 3 s"
)
@pytest.mark.parametrize(("how", "n_kills"), [("kill", 30), ("cut", 30)])
def test_connections_go_on_by_another_gateway(
    running: tuple[Site, InnerStreams], how: str, n_kills: int, figures: Figures
) -> None:
    made, streams = running
    stalls_s: dict[str, list[float]] = {"udp": [], "tcp": []}
    right_s: list[float] = []
    for n in range(n_kills):
        streams.flow_for(BETWEEN_S)
        lost = n % N_GATEWAYS
        there = [
            name
            for number, name in enumerate(CLIENTS)
            if made.having(made.address(number)) == [lost]
        ]
        began_s = time.monotonic()
        made.end(lost, is_cut=how == "cut")
        made.wait_right([each for each in range(N_GATEWAYS) if each != lost])
        right_s.append(time.monotonic() - began_s)
        streams.wait_flowing(time.monotonic(), 30)
        for (name, _), stall_s in streams.stalls(began_s).items():
            if name in there:
                stalls_s[name[:3]].append(stall_s)
        made.restore(lost, was_cut=how == "cut")
    assert streams.broken() == []
    figures.total("kills", n_kills)
    figures.worst(f"routes right ({how}), worst", max(right_s), "s")
    for transport, found in stalls_s.items():
        p50, p95 = statistics.median(found), statistics.quantiles(found, n=20)[-1]
        figures.worst(f"stall on {transport.upper()} ({how}), median", p50, "s")
        figures.worst(f"stall on {transport.upper()} ({how}), p95", p95, "s")
        print(how, transport, len(found), p50, p95, max(found), max(right_s))  # noqa: T201
        assert p95 <= LIMIT_S
    assert statistics.quantiles(right_s, n=20)[-1] <= LIMIT_S


@pytest.mark.promise("Gateways that are drained and restarted in turn cost no connection inside")
def test_a_rolling_restart_costs_no_connection(
    running: tuple[Site, InnerStreams], figures: Figures
) -> None:
    made, streams = running
    stalls_s: list[float] = []
    for number in range(N_GATEWAYS):
        streams.flow_for(BETWEEN_S)
        began_s, gateway = time.monotonic(), made.gateways[number]
        gateway.asked_to_stop = True
        run_dir = str(gateway.log_file.parent)
        gateway.host.run(*FASTUN, "drain", "--run-dir", run_dir, "--timeout", "30", timeout_s=60)
        assert gateway.process.wait(10) == 0
        made.wait_right([each for each in range(N_GATEWAYS) if each != number])
        streams.wait_flowing(time.monotonic(), 30)
        stalls_s += streams.stalls(began_s).values()
        made.restore(number, was_cut=False)
    assert streams.broken() == []
    figures.worst("longest without an answer inside", max(stalls_s), "s")
    print(sorted(stalls_s))  # noqa: T201
