"""The database of a fleet is away, for all or for one gateway, while clients go on and move.

By hand (make soak): ten minutes (FASTUN_AWAY_S=600), PostgreSQL and BIRD.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from fastun.fleet.postgres import PostgresDirectory
from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import start_gateway
from tests.support.fleet_site import DATABASE, N_GATEWAYS, SERVER, outside, site, wired
from tests.support.inner_streams import InnerStreams
from tests.support.postgres import cluster
from tests.support.routing_recipes import Bird

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.figures import Figures
    from tests.support.fleet_site import Site

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

AWAY_S = int(os.environ.get("FASTUN_AWAY_S", "600"))
CATCH_UP_S = 5.0
FOUND_S = 10.0
CLIENTS = ("udp1", "udp2", "tcp1", "late")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Site]:
    """A site whose database is reached by TCP; three clients are connected, one each."""
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    recipe = Bird()
    with Lab() as lab:
        hosts = wired(lab, CLIENTS)
        with cluster(hosts.db) as database:
            built = site(lab, hosts, tmp_path, database, recipe)
            for number in range(3):
                built.add_client(number, CLIENTS[number][:3], number)
            for client in built.clients:
                wait_until(lambda client=client: answers_ping(client.host, SERVER),  # type: ignore[misc]
                           "the way to the server", timeout_s=30)  # fmt: skip
            yield built
    recipe.close()


@pytest.mark.promise("A fleet without its database loses no session, and catches up within 5 s")
def test_without_the_database_sessions_go_on_rekey_roam_and_begin(
    made: Site, figures: Figures
) -> None:
    late = made.file("late", 0)
    made.wait_known({*CLIENTS})
    with InnerStreams(made.site.server, SERVER) as streams:
        for client in made.clients:
            streams.connect(client.host)
        streams.begin()
        made.cluster.stop()
        began_s = time.monotonic()
        before = [_rekeys(made, n) for n in range(N_GATEWAYS)]
        try:
            wait_until(lambda: all(made.fault(n) for n in range(N_GATEWAYS)), "it is said",
                       timeout_s=40)  # fmt: skip
            made.roam(0)
            moved_s = time.monotonic()
            streams.wait_flowing(moved_s, 10)
            client = start_gateway(made.site.clients[3], made.directory, "connect", str(late),
                                   wire="wireguard")  # fmt: skip
            wait_until(lambda: answers_ping(client.host, SERVER), "a known peer", timeout_s=20)
            while time.monotonic() < began_s + AWAY_S:
                time.sleep(1)
                assert streams.broken() == []
        finally:
            made.cluster.start()
        back_s = time.monotonic()
        with PostgresDirectory(made.near_url) as directory:
            directory.remove("late")
        wait_until(lambda: all("late" not in made.known(n) for n in range(N_GATEWAYS)),
                   "all have caught up", timeout_s=30)  # fmt: skip
        caught_up_s = time.monotonic() - back_s
        streams.wait_flowing(time.monotonic(), 10)
        stalls = streams.stalls(began_s)
        n_rekeys = sum(_rekeys(made, n) - before[n] for n in range(N_GATEWAYS))
        assert streams.broken() == []
        lost = [line for n in range(N_GATEWAYS) for line in made.log(n) if " down " in line]
        assert [line for line in lost if "peer=late" not in line] == []
    figures.worst("away for", AWAY_S, "s")
    figures.total("rekeys meanwhile", n_rekeys)
    figures.worst("longest without an answer inside", max(stalls.values()), "s")
    figures.worst("caught up after", caught_up_s, "s")
    print(stalls, n_rekeys, caught_up_s)  # noqa: T201
    assert caught_up_s <= CATCH_UP_S
    assert n_rekeys >= len(CLIENTS) * (AWAY_S // 130)


def _rekeys(made: Site, number: int) -> float:
    return made.gateways[number].scrape().total("fastun_rekeys_total")


@pytest.mark.promise(
    "Behind a gateway that is cut off from the directory, a peer that has left is found within 10 s"
)
def test_a_peer_moves_from_a_gateway_that_hears_nothing_of_the_directory(
    made: Site, figures: Figures
) -> None:
    """It goes on with the session that it has, and cannot hear that the peer is elsewhere."""
    cut_off = made.hosts[0]
    cut_off.ip("route", "add", "blackhole", f"{DATABASE}/32")
    wait_until(lambda: bool(made.fault(0)), "the fault is said", timeout_s=60)
    with InnerStreams(made.site.server, SERVER) as streams:
        streams.connect(made.clients[0].host)
        streams.begin()
        assert made.having(made.address(0)) == [0]
        began_s = time.monotonic()
        made.site.edge.ip("route", "add", "blackhole", f"{outside(0)}/32")  # both ways of it
        wait_until(lambda: 1 in made.having(made.address(0)), "another has it", timeout_s=20)
        streams.wait_flowing(time.monotonic(), 300)
        stall_s = max(streams.stalls(began_s).values())
        figures.worst("longest without an answer inside", stall_s, "s")
        assert made.having(made.address(0)) == [1]
        assert stall_s <= FOUND_S
        assert streams.broken() == []
        cut_off.ip("route", "del", "blackhole", f"{DATABASE}/32")
        wait_until(lambda: not made.fault(0), "it follows again", timeout_s=30)
        made.wait_right(range(N_GATEWAYS))
