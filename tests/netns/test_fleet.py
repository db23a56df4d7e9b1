"""Three gateways with one key and one peer directory in PostgreSQL (docs/fleet.md)."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import UDP_PORT, start_gateway
from fastun.session import keys, noise, tai64n
from tests.support.fleet import scene as fleet_scene
from tests.support.postgres import cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.figures import Figures
    from tests.support.fleet import FleetScene

INNER = "10.99.0.1"
N_RECORDED = 1000 if os.environ.get("FASTUN_SOAK") == "1" else 40


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetScene]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with cluster() as running, Lab() as lab:
        made = fleet_scene(lab, tmp_path_factory.mktemp("fleet"), running, 3)
        made.gateways.extend(made.start(number) for number in range(3))
        yield made


def test_a_peer_added_on_one_gateway_connects_to_another_and_is_cut_off_by_a_third(
    fleet: FleetScene,
) -> None:
    fleet.wait_known(set())
    file = fleet.connect("laptop", 0)
    file.write_text(file.read_text().replace(fleet.outer(0), fleet.outer(1)))
    fleet.wait_known({"laptop"})
    client = start_gateway(fleet.client, fleet.directory, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_ping(fleet.client, INNER), "the tunnel", timeout_s=20)
    listed = json.loads(fleet.peer(1, "list", "--json"))
    assert [each["up"] for each in listed] == [True]
    fleet.peer(2, "remove", "laptop")
    fleet.wait_known(set())
    wait_until(lambda: not answers_ping(fleet.client, INNER), "the peer is cut off", timeout_s=20)
    client.stop()


def test_gateways_serve_and_start_without_the_database_and_catch_up(fleet: FleetScene) -> None:
    file = fleet.connect("desk", 0)
    fleet.wait_known({"desk"})
    client = start_gateway(fleet.client, fleet.directory, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_ping(fleet.client, INNER), "the tunnel", timeout_s=20)
    fleet.cluster.stop()
    try:
        wait_until(lambda: _fault(fleet, 1), "the fault is said", timeout_s=30)
        refused = fleet.asked(1, "peer", "add", "late")
        assert refused.returncode == 1, refused.stderr
        assert b"cannot be reached" in refused.stderr
        assert refused.stderr.count(b"\n") == 1
        assert answers_ping(fleet.client, INNER)
        fleet.gateways[0].stop()
        fleet.gateways[0] = fleet.start(0)
        assert fleet.known(0) == {"desk"}
        wait_until(lambda: answers_ping(fleet.client, INNER), "the tunnel again", timeout_s=40)
    finally:
        fleet.cluster.start()
    fleet.peer(2, "remove", "desk")
    fleet.wait_known(set())
    wait_until(lambda: not _fault(fleet, 0), "the fault is gone")
    log = fleet.gateways[1].log_file.read_text()
    assert log.count("cannot be followed") == 1
    client.stop()


def test_the_process_that_speaks_to_the_database_is_confined_and_status_says_so(
    fleet: FleetScene,
) -> None:
    has = fleet.status(0).fleet
    assert has is not None
    assert has.confinement is not None
    assert has.confinement.seccomp
    said = fleet.asked_host(0, "status").stdout.decode()
    assert f"fleet: user {os.geteuid()}, no capabilities, seccomp" in " ".join(said.split())
    (process,) = fleet.followers(0)
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    now = {
        key: value.strip() for key, _, value in (row.partition(":") for row in text.splitlines())
    }
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(now[name], 16) == 0, name
    assert (now["NoNewPrivs"], now["Seccomp"], now["Threads"]) == ("1", "2", "1")
    limits = Path(f"/proc/{process}/limits").read_text(encoding="ascii")
    for name in ("processes", "core file size"):
        assert re.search(rf"^Max {name} +0 +0 ", limits, re.MULTILINE), name
    for name in ("address space", "file size", "open files"):
        assert re.search(rf"^Max {name} +\d+ +\d+ ", limits, re.MULTILINE), name


def _fault(fleet: FleetScene, number: int) -> str:
    now = fleet.status(number).fleet
    assert now is not None
    return now.fault


def routes(fleet: FleetScene, number: int) -> list[str]:
    """Return what the gateway routes to its device for peers: fastun's protocol, fleet's metric."""
    shown = fleet.hosts[number].ip("-4", "route", "show", "proto", "157")
    return sorted(line.split()[0] for line in shown.splitlines() if "metric 10" in line)


def test_a_connected_peers_addresses_are_routes_where_it_is_and_go_with_it(
    fleet: FleetScene,
) -> None:
    file = fleet.connect("site", 1, "--allowed-ips", "172.16.7.0/24")
    fleet.wait_known({"site"})
    # As a routing daemon has it from the gateway where the peer was.
    fleet.hosts[1].ip("route", "add", "10.99.0.2/32", "via", "10.0.2.2", "metric", "32")
    client = start_gateway(fleet.client, fleet.directory, "connect", str(file), wire="wireguard")
    wait_until(lambda: routes(fleet, 1) == ["10.99.0.2", "172.16.7.0/24"], "routes", timeout_s=20)
    way = fleet.hosts[1].ip("route", "get", "10.99.0.2")
    assert f"dev {fleet.gateways[1].interface}" in way
    assert routes(fleet, 0) == routes(fleet, 2) == []
    fleet.peer(0, "set", "site", "--allowed-ips", "172.16.8.0/24")
    wait_until(lambda: routes(fleet, 1) == ["172.16.8.0/24"], "other routes", timeout_s=20)
    client.stop()
    wait_until(lambda: routes(fleet, 1) == [], "no route", timeout_s=20)
    fleet.hosts[1].ip("route", "del", "10.99.0.2/32", "metric", "32")
    fleet.peer(0, "remove", "site")


def test_a_peer_that_answers_nothing_has_no_route_until_it_is_heard(fleet: FleetScene) -> None:
    file = fleet.connect("sleeper", 1)
    fleet.wait_known({"sleeper"})
    client = start_gateway(fleet.client, fleet.directory, "connect", str(file), wire="wireguard")
    wait_until(lambda: routes(fleet, 1) == ["10.99.0.2"], "the route", timeout_s=20)
    sending = fleet.hosts[1].spawn("ping", "-q", "-i0.2", "10.99.0.2")
    fleet.client.ip("link", "set", "to-gw2", "down")
    wait_until(lambda: routes(fleet, 1) == [], "no route", timeout_s=20)
    assert [peer.link is not None for peer in fleet.status(1).peers] == [True]  # it goes on
    fleet.client.ip("link", "set", "to-gw2", "up")
    wait_until(lambda: answers_ping(fleet.client, INNER), "the tunnel", timeout_s=20)
    wait_until(lambda: routes(fleet, 1) == ["10.99.0.2"], "the route again", timeout_s=20)
    sending.terminate()
    client.stop()
    fleet.peer(2, "remove", "sleeper")


def test_a_peer_that_shows_up_at_another_gateway_is_let_go_at_once(fleet: FleetScene) -> None:
    file = fleet.connect("phone", 0)
    fleet.wait_known({"phone"})
    elsewhere = file.with_name("elsewhere.toml")
    elsewhere.touch(mode=0o600)
    elsewhere.write_text(file.read_text().replace(fleet.outer(0), fleet.outer(1)))

    for number, path in ((0, file), (1, elsewhere)):
        # Killed: no gateway hears a goodbye, and its session would go on for minutes.
        client = start_gateway(
            fleet.client, fleet.directory, "connect", str(path), wire="wireguard"
        )
        wait_until(lambda: answers_ping(fleet.client, INNER), "the tunnel", timeout_s=20)
        wait_until(lambda number=number: having(fleet) == [number], "routes", timeout_s=20)  # type: ignore[misc]
        client.process.kill()
        client.process.wait()
        wait_until(lambda: not fleet.client.devices() or "ft0" not in fleet.client.devices(),
                   "the device is gone", timeout_s=20)  # fmt: skip
    log = fleet.gateways[0].log_file.read_text()
    assert "the peer is connected to another gateway" in log
    fleet.peer(2, "remove", "phone")


@pytest.mark.promise("Recorded handshakes at other gateways move no route and end no session")
def test_handshakes_that_were_recorded_move_nothing(fleet: FleetScene, figures: Figures) -> None:
    file = fleet.connect("victim", 0)
    fleet.wait_known({"victim"})
    client = start_gateway(fleet.client, fleet.directory, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_ping(fleet.client, INNER), "the tunnel", timeout_s=20)
    wait_until(lambda: having(fleet) == [0], "the first gateway has it", timeout_s=20)
    text = tomllib.loads(file.read_text())
    own = keys.pair_of(keys.parse_key(text["interface"]["private_key"], "key"))
    server = keys.parse_key(text["peer"][0]["public_key"], "key")
    with fleet.client.socket(kind=socket.SOCK_DGRAM) as attacker:
        for n in range(N_RECORDED):
            # Later than the client's own, so the mark does not refuse them: held back on the way.
            then = tai64n.from_unix_ns(time.time_ns())
            initiation, _ = noise.initiate(own, server, timestamp=then)
            for number in (1, 2):
                attacker.sendto(initiation, (fleet.outer(number), UDP_PORT))
            if n % 10 == 0:
                assert having(fleet) == [0]
            time.sleep(0.03)
    figures.total("handshakes sent to each of two", N_RECORDED)
    answered = [gateway.scrape().total("fastun_handshakes_total") for gateway in fleet.gateways]
    assert answered[1] + answered[2] > 0  # they were taken in
    assert answers_ping(fleet.client, INNER)
    assert having(fleet) == [0]
    assert "connected to another gateway" not in "".join(
        line for line in fleet.gateways[0].log_file.read_text().splitlines() if "victim" in line
    )
    client.stop()
    fleet.peer(2, "remove", "victim")


def test_a_client_whose_gateway_is_killed_goes_on_by_another(fleet: FleetScene) -> None:
    file = fleet.connect("roamer", 0, "--endpoint", f"udp://{fleet.outer(1)}",
                         "--endpoint", f"udp://{fleet.outer(2)}")  # fmt: skip
    fleet.wait_known({"roamer"})
    client = start_gateway(fleet.client, fleet.directory, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_ping(fleet.client, INNER), "the tunnel", timeout_s=20)
    wait_until(lambda: len(having(fleet)) == 1, "one gateway has it", timeout_s=20)
    (lost,) = having(fleet)
    gateway = fleet.gateways[lost]
    gateway.process.kill()
    gateway.process.wait()
    wait_until(lambda: answers_ping(fleet.client, INNER), "the tunnel again", timeout_s=30)
    wait_until(lambda: len(having(fleet)) == 1, "another one has it", timeout_s=20)
    assert having(fleet) != [lost]
    fleet.gateways[lost] = fleet.start(lost)
    fleet.wait_known({"roamer"})
    client.stop()
    fleet.peer(2, "remove", "roamer")


def having(fleet: FleetScene) -> list[int]:
    """Return the gateways that have routes to a peer."""
    return [number for number in range(3) if routes(fleet, number)]
