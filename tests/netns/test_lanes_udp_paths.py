"""Four lanes at both ends of a tunnel on UDP, and paths that change: NATs, addresses, sessions.

client 10.1.0.2 ==veth== 10.1.0.1 router 198.51.100.1 ==veth== 198.51.100.9 server
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import UDP_PORT, GatewayProcess, Tunnel, add_peer, start_gateway
from tests.support.compressed_time import gateway_with
from tests.support.lanes_at_once import AT_ONCE, LINES
from tests.support.lanes_load import loaded, status_of, wait_for_lanes
from tests.support.lanes_seen import assert_each_lane_adds_up
from tests.support.numbered import asking
from tests.support.sealed_capture import sealed_on
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from tests.support.figures import Figures

N_LANES = 4
LANES = ("--lanes", str(N_LANES))
SERVER, ROUTER, CLIENT = "198.51.100.9", "198.51.100.1", "10.1.0.2"
SERVER_INNER, CLIENT_INNER = "10.99.0.1", "10.99.0.2"
MAPPED_S = 20
OFTEN = gateway_with(
    more=LINES,
    rekey_after_time_s=3.0,
    reject_after_time_s=30.0,
    rekey_timeout_s=0.5,
    jitter_s=0.01,
)


class Office(NamedTuple):
    client: GatewayProcess
    router: Host
    server: GatewayProcess

    def load(self) -> contextlib.AbstractContextManager[None]:
        return loaded(self.client.host, self.server.host, SERVER_INNER)

    def wait_for(self, n_lanes: int, timeout_s: float = 20) -> None:
        for gateway in (self.client, self.server):
            wait_for_lanes(gateway, n_lanes, timeout_s=timeout_s)


@pytest.fixture
def program() -> tuple[str, ...]:
    return AT_ONCE


@pytest.fixture
def office(lab: Lab, tmp_path: Path, program: tuple[str, ...]) -> Office:
    client, router, server = lab.host("client"), lab.host("router"), lab.host("server")
    lab.wire(client, router, [f"{CLIENT}/24"], ["10.1.0.1/24"])
    lab.wire(router, server, [f"{ROUTER}/24"], [f"{SERVER}/24"])
    router.sysctl("net.ipv4.ip_forward", 1)
    client.ip("route", "add", "default", "via", "10.1.0.1")
    router.run("nft", "add", "table", "ip", "nat")
    hook = "{ type nat hook postrouting priority 100; }"
    router.run("nft", "add", "chain", "ip", "nat", "out", hook)
    router.run(
        *[
            "nft",
            "add",
            "rule",
            "ip",
            "nat",
            "out",
            "oifname",
            "to-server",
            "masquerade",
            "fully-random",
        ]
    )
    serving = start_gateway(
        server,
        tmp_path,
        "serve",
        *("--listen", f"udp://{SERVER}:{UDP_PORT}", *LANES),
        wire="wireguard",
        addresses=[f"{SERVER_INNER}/24"],
        program=program,
    )
    file = add_peer(serving, "client", SERVER, "udp")
    dialling = start_gateway(
        client, tmp_path, "connect", str(file), *LANES, wire="wireguard", program=program
    )
    dialling.addresses, serving.addresses = [f"{CLIENT_INNER}/24"], [f"{SERVER_INNER}/24"]
    Tunnel(serving, dialling).wait_up()
    return Office(dialling, router, serving)


@pytest.mark.promise("A lane whose NAT mapping has died carries nothing until it is proven again")
def test_mappings_of_idle_lanes_die_and_nothing_is_lost(office: Office) -> None:
    """What the server asks meanwhile, in flows of every queue, finds its way in the first lane."""
    client, server = office.client, office.server
    for kind in ("timeout", "timeout_stream"):
        office.router.sysctl(f"net.netfilter.nf_conntrack_udp_{kind}", MAPPED_S)
    with office.load():
        office.wait_for(N_LANES)
    before = endpoints_of(server)
    with asking(server.host, client.host, CLIENT_INNER) as asked:
        office.wait_for(1, timeout_s=60)
        time.sleep(MAPPED_S)
        with office.load():
            office.wait_for(N_LANES)
            there = start_transfer(client.host, server.host, SERVER_INNER, n_bytes=10**7)
            assert there.result(timeout=60).is_exact
    print(asked.n_sent, asked.n_lost())  # noqa: T201
    assert asked.n_lost() == 0
    after = endpoints_of(server)
    assert len(before) == len(after) == N_LANES
    assert len(before & after) <= 1, "the mappings have died, but for the first lane's"
    assert_each_lane_adds_up(client)
    assert_each_lane_adds_up(server)


def endpoints_of(server: GatewayProcess) -> set[int]:
    """The ports by which the server hears its client just now."""
    with sealed_on(server.host, "to-router") as found:
        time.sleep(4)  # an idle one is asked every three
    return {each.source for each in found if each.to == UDP_PORT}


def test_lanes_whose_ports_lead_nowhere_any_more_are_opened_by_others(office: Office) -> None:
    client, server = office.client, office.server
    with office.load():
        office.wait_for(N_LANES)
        (first,) = (each["remote"] for each in status_of(server)["peers"])
        dead = endpoints_of(server) - {int(first.rpartition(":")[2])}
        assert len(dead) == N_LANES - 1
        server.host.run("nft", "add", "table", "ip", "hole")
        hook = "{ type filter hook input priority 0; }"
        server.host.run("nft", "add", "chain", "ip", "hole", "input", hook)
        ports = "{ " + ", ".join(map(str, dead)) + " }"
        server.host.run("nft", "add", "rule", "ip", "hole", "input", "udp", "sport", ports, "drop")
        office.wait_for(1, timeout_s=40)
        there = start_transfer(client.host, server.host, SERVER_INNER, n_bytes=10**6)
        assert there.result(timeout=60).is_exact
        office.wait_for(N_LANES, timeout_s=60)
    assert_each_lane_adds_up(client)
    assert_each_lane_adds_up(server)


def test_a_way_that_is_broken_towards_the_server_only_is_left_by_both_sides(
    office: Office, figures: Figures
) -> None:
    """The client hears the server by it all the time, and cannot know."""
    client, server = office.client, office.server
    with office.load(), loaded(server.host, client.host, CLIENT_INNER):
        office.wait_for(N_LANES)
        (first,) = (each["remote"] for each in status_of(server)["peers"])
        (dead, *_) = sorted(endpoints_of(server) - {int(first.rpartition(":")[2])})
        server.host.run("nft", "add", "table", "ip", "hole")
        hook = "{ type filter hook input priority 0; }"
        server.host.run("nft", "add", "chain", "ip", "hole", "input", hook)
        server.host.run("nft", "add", "rule", "ip", "hole", "input", f"udp sport {dead} drop")
        began_s = time.monotonic()
        office.wait_for(N_LANES - 1, timeout_s=30)
        figures.worst("until both sides leave it", time.monotonic() - began_s, "s")
        there = start_transfer(client.host, server.host, SERVER_INNER, n_bytes=10**6)
        assert there.result(timeout=60).is_exact
        server.host.run("nft", "delete", "table", "ip", "hole")
        office.wait_for(N_LANES, timeout_s=60)
    assert_each_lane_adds_up(client)
    assert_each_lane_adds_up(server)


def test_a_client_whose_address_changes_keeps_all_its_lanes(office: Office) -> None:
    client, server = office.client, office.server
    with office.load():
        office.wait_for(N_LANES)
        there = start_transfer(client.host, server.host, SERVER_INNER, n_bytes=3 * 10**7)
        client.host.ip("address", "del", f"{CLIENT}/24", "dev", "to-router")
        client.host.ip("address", "add", "10.1.0.3/24", "dev", "to-router")
        client.host.ip("route", "replace", "default", "via", "10.1.0.1")
        assert there.result(timeout=60).is_exact
        office.wait_for(N_LANES)
        back = start_transfer(server.host, client.host, CLIENT_INNER, n_bytes=10**7)
        assert back.result(timeout=60).is_exact
    assert_each_lane_adds_up(client)
    assert_each_lane_adds_up(server)


@pytest.mark.parametrize("program", [OFTEN])
def test_all_lanes_go_over_to_each_new_session_without_a_loss(office: Office) -> None:
    client, server = office.client, office.server

    def n_rekeys() -> float:
        return client.scrape().total("fastun_rekeys_total")

    with office.load():
        office.wait_for(N_LANES)
        before = n_rekeys()
        with asking(client.host, server.host, SERVER_INNER) as asked:
            wait_until(lambda: n_rekeys() >= before + 3, "three new sessions", timeout_s=40)
        office.wait_for(N_LANES)
    print(asked.n_sent, asked.n_lost())  # noqa: T201
    assert_each_lane_adds_up(client)
    assert_each_lane_adds_up(server)
    assert asked.n_lost() == 0


@pytest.mark.promise("Of each lane's session every counter is on the wire once, from 0 on")
def test_each_counter_of_each_lane_is_on_the_wire_once_and_none_is_missing(office: Office) -> None:
    client, server = office.client, office.server
    with (
        sealed_on(server.host, "to-router") as to_server,
        sealed_on(client.host, "to-router") as to_client,
    ):
        with office.load():
            office.wait_for(N_LANES)
            with asking(client.host, server.host, SERVER_INNER):
                time.sleep(1)
        time.sleep(1)
    for found in (to_server, to_client):
        by_index: dict[int, list[int]] = {}
        for each in found:
            by_index.setdefault(each.index, []).append(each.counter)
        print({index: len(counters) for index, counters in by_index.items()})  # noqa: T201
        assert len(by_index) == N_LANES
        ports = {each.source if found is to_server else each.to for each in found}
        assert len(ports) == N_LANES
        for counters in by_index.values():
            assert max(Counter(counters).values()) == 1
            assert len(counters) == max(counters) - min(counters) + 1
        began_before = max(by_index.values(), key=min)  # the session's own, of the first lane
        assert all(min(each) == 0 for each in by_index.values() if each is not began_before)
