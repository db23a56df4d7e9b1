"""Five peers on one TAP device: every host reaches every other, and none can cost the others.

The topology is in tests/support/tap_network.py.
"""

from __future__ import annotations

import itertools
import statistics
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping, ping
from tests.support.accounting import assert_adds_up
from tests.support.lanes_load import status_of
from tests.support.tap_goodput import beside_the_server, limited
from tests.support.tap_network import (
    BROADCAST,
    TapNetwork,
    any_mac,
    frame,
    heard,
    mac_of,
    raw_socket,
)
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

N_PEERS = 5


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TapNetwork]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as lab:
        network = TapNetwork(
            lab, tmp_path_factory.mktemp("tap"), ("tcp", "udp", "udp", "tcp", "udp")
        )
        yield network
        for gateway in (network.server, *network.peers):
            print(f"--- {gateway.host.name}", *gateway.log_tail(20), sep="\n")  # noqa: T201


def test_every_peer_finds_every_other_by_arp_and_neighbour_discovery(network: TapNetwork) -> None:
    for one, other in itertools.permutations(network.peers, 2):
        assert answers_ping(one.host, other.inner_address)
        assert answers_ping(one.host, other.inner_address_v6)
    for peer in network.peers:
        assert answers_ping(network.server.host, peer.inner_address)
    # They are known now: what one sends another, no third one hears.
    one, other, third = (peer.host for peer in network.peers[:3])
    with raw_socket(other) as listener, raw_socket(third) as third_listener, raw_socket(one) as out:
        third_listener.settimeout(0.3)
        out.send(frame(mac_of(other), mac_of(one), b"for one"))
        assert heard(listener, b"for one")
        assert not heard(third_listener, b"for one")
    assert_adds_up([network.server])


def test_a_broadcast_reaches_all_but_its_sender(network: TapNetwork) -> None:
    sender, *others = (peer.host for peer in network.peers)
    with raw_socket(sender) as out:
        listeners = [raw_socket(host) for host in (*others, network.server.host)]
        out.send(frame(BROADCAST, mac_of(sender), b"to all"))
        assert all(heard(listener, b"to all") for listener in listeners)
        out.settimeout(0.3)
        assert not heard(out, b"to all")  # its own copy is not among what a socket sent
        for listener in listeners:
            listener.close()


def test_what_is_for_bridges_reaches_the_server_and_no_other_peer(network: TapNetwork) -> None:
    sender, other, server = *(peer.host for peer in network.peers[:2]), network.server.host
    before = network.drops("reserved_group")
    lldp = bytes.fromhex("0180c200000e")
    with raw_socket(sender) as out, raw_socket(other) as by_peer, raw_socket(server) as by_server:
        out.send(frame(lldp, mac_of(sender), b"for bridges"))
        out.send(frame(BROADCAST, mac_of(sender), b"for all"))
        assert heard(by_server, b"for bridges")
        assert b"for all" in by_peer.recv(2048)  # and nothing before it
    assert network.drops("reserved_group") == before + 1


def test_an_address_in_one_vlan_is_not_that_in_another(network: TapNetwork) -> None:
    one, other, third = (peer.host for peer in network.peers[:3])
    mac = any_mac()
    with raw_socket(one) as first, raw_socket(other) as second, raw_socket(third) as out:
        first.send(frame(BROADCAST, mac, b"I am in 7", vlan=7))
        assert heard(second, b"I am in 7")
        second.send(frame(BROADCAST, mac, b"I am in 8", vlan=8))
        assert heard(first, b"I am in 8")
        for listener in (first, second):
            listener.settimeout(0.5)
        out.send(frame(mac, mac_of(third), b"for 7", vlan=7))
        assert heard(first, b"for 7")
        assert not heard(second, b"for 7")
    assert f"{mac.hex(':')} vlan 7" in macs_shown(network, "peer1")
    assert f"{mac.hex(':')} vlan 8" in macs_shown(network, "peer2")


def macs_shown(network: TapNetwork, peer: str) -> list[str]:
    shown: list[dict[str, Any]] = status_of(network.server)["peers"]
    return next(list(each["mac_addresses"]) for each in shown if each["name"] == peer)


def test_super_packets_go_whole_from_peer_to_peer(network: TapNetwork) -> None:
    one, other = network.peers[0], network.peers[3]  # both on TCP
    before = network.server.scrape()
    transfer = start_transfer(one.host, other.host, other.inner_address, n_bytes=20 * 10**6)
    assert transfer.result(timeout=30).is_exact
    after = network.server.scrape()

    def counted(name: str) -> float:
        return after.total(name, role="link-writer") - before.total(name, role="link-writer")

    assert counted("fastun_packets_total") > 4 * counted("fastun_frames_total")
    switched = "fastun_switched_packets_total"
    assert after.total(switched) - before.total(switched) > 10000
    across = start_transfer(
        network.peers[1].host, network.peers[3].host, other.inner_address, n_bytes=5 * 10**6
    )
    assert across.result(timeout=30).is_exact  # from UDP to TCP
    assert_adds_up([network.server])


def test_no_peer_can_have_the_servers_address(network: TapNetwork) -> None:
    thief, victim = network.peers[1].host, network.peers[2].host
    before = network.drops("bad_source")
    with raw_socket(thief) as out:
        out.send(frame(BROADCAST, mac_of(network.server.host)))
    wait_until(lambda: network.drops("bad_source") > before, "it is dropped")
    assert answers_ping(victim, "10.99.0.1")


@pytest.mark.parametrize("n", [5000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_made_up_addresses_of_one_cost_the_others_nothing(network: TapNetwork, n: int) -> None:
    forger, one, other = network.peers[1], network.peers[2], network.peers[4]
    with raw_socket(forger.host) as out:
        destination = mac_of(network.server.host)
        for _ in range(n):
            out.send(frame(destination, any_mac()))
    wait_until(lambda: macs_behind(network, "peer2") == 1024, "its thousand are full")
    before = network.server.scrape().total("fastun_mac_moves_total")
    assert ping(one.host, other.inner_address, n=50, interval_s=0.01).n_received == 50
    assert network.server.scrape().total("fastun_mac_moves_total") == before
    assert macs_behind(network, "peer5") >= 1


def macs_behind(network: TapNetwork, peer: str) -> float:
    return network.server.scrape().total("fastun_peer_mac_addresses", peer=peer)


def test_a_storm_of_broadcasts_is_limited_and_counted(network: TapNetwork) -> None:
    storm, one, other = network.peers[4], network.peers[0], network.peers[3]
    before = network.drops("flood_limit")
    with raw_socket(storm.host) as out:
        broadcast = frame(BROADCAST, mac_of(storm.host), b"storm")
        for _ in range(10000):
            out.send(broadcast)
    wait_until(lambda: network.drops("flood_limit") > before + 1000, "it is limited")
    assert ping(one.host, other.inner_address, n=20, interval_s=0.01).n_received == 20
    assert_adds_up([network.server])


def test_an_address_that_moves_between_peers_is_counted(network: TapNetwork) -> None:
    one, other = network.peers[1].host, network.peers[2].host
    before = network.server.scrape().total("fastun_mac_moves_total")
    mac, away = any_mac(), mac_of(network.server.host)
    with raw_socket(one) as first, raw_socket(other) as second:

        def has_moved() -> bool:
            first.send(frame(away, mac))
            time.sleep(0.05)
            second.send(frame(away, mac))
            return network.server.scrape().total("fastun_mac_moves_total") > before + 3

        wait_until(has_moved, "moves")


def test_a_worker_that_is_killed_finds_the_addresses_that_were_known(network: TapNetwork) -> None:
    one, other = network.peers[1], network.peers[2]  # on UDP: a stream ends with its link-reader
    mac = any_mac()
    with raw_socket(other.host) as out:
        out.send(frame(BROADCAST, mac))
    wait_until(lambda: mac.hex(":") in macs_shown(network, "peer3"), "it is learned")
    for role in ("link-reader", "tun-reader"):
        worker = next(
            child
            for child in psutil.Process(network.server.process.pid).children()
            if role in child.cmdline()[0]
        )
        worker.kill()
        wait_until(lambda: network.server.get("/readyz")[0] == 200, "ready again")
        wait_until(
            lambda: answers_ping(one.host, other.inner_address),
            "peers reach each other",
            timeout_s=15,
        )
    assert mac.hex(":") in macs_shown(network, "peer3")
    assert_adds_up([network.server])


# -- goodput, where the links set the limit -----------------------------------------------------


@pytest.mark.parametrize(
    ("mbit_per_second", "rounds"),
    [(200, 1), pytest.param(1000, 5, marks=(pytest.mark.soak, pytest.mark.timeout(120)))],
)
@pytest.mark.parametrize("places", [(0, 3), (1, 2)], ids=["tcp", "udp"])
def test_on_limited_links_two_peers_have_the_goodput_of_one_and_the_server(
    network: TapNetwork, places: tuple[int, int], mbit_per_second: int, rounds: int
) -> None:
    one, other = (network.peers[place] for place in places)
    with limited(network, places, mbit_per_second):
        measured = [beside_the_server(network, one, other) for _ in range(rounds)]
    for each in measured:
        print(each)  # noqa: T201
    assert statistics.median(each.ratio for each in measured) >= 0.7
