"""What a scrape collects of an idle gateway: peers, links, sessions, and counters that go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fastun import native
from fastun.config.settings import Options, load
from fastun.gateway import viewer as gateway_viewer
from fastun.gateway.viewer import Viewer
from fastun.host.socket_state import SocketState
from fastun.link.key_exchange import KeyExchange
from fastun.link.last_error import Reason
from fastun.link.stream.handshake import SealedHandshaker
from fastun.metrics.collector import GatewayCollector
from fastun.metrics.families import FAMILIES
from fastun.native import PEER_SLOTS, ROLES
from fastun.peers.peer import Peer
from fastun.session.keys import KeyPair
from fastun.session.refusal import Refusal
from tests.support.idle_gateway import (
    fill,
    fill_ring,
    have,
    idle_gateway,
    link_over,
    peers_named,
    tcp_pair,
    viewing,
    write_field,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from types import SimpleNamespace

    from prometheus_client import Metric

    from fastun.gateway.gateway import Gateway


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with idle_gateway() as idle:
        yield idle


@pytest.fixture
def collector(gateway: Gateway) -> Iterator[GatewayCollector]:
    with viewing(gateway) as viewer:
        yield GatewayCollector(viewer.view)


def test_samples_of_peers_are_made_while_they_are_encoded(collector: GatewayCollector) -> None:
    """All of a thousand peers at once would be memory that the gateway keeps."""
    for family, metric in zip(FAMILIES, collector.collect(), strict=True):
        assert isinstance(metric.samples, list) == ("peer" not in family.labels), family.name


def text(collector: GatewayCollector) -> str:
    """Return one scrape as text."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def collect(collector: GatewayCollector) -> dict[str, Metric]:
    """Return the families of one scrape by name, as prometheus_client reads them."""
    return {family.name: family for family in text_string_to_metric_families(text(collector))}


def by_peer(collector: GatewayCollector, name: str) -> dict[str, float]:
    """Return a family's values by peer."""
    samples = collect(collector)[name].samples
    values = {sample.labels["peer"]: sample.value for sample in samples}
    assert len(values) == len(samples)
    return values


def test_every_peer_has_its_own_samples(gateway: Gateway, collector: GatewayCollector) -> None:
    have(gateway, *peers_named("ant", "bee"))
    slots = {slotted.peer.name: slot for slot, slotted in gateway.peer_slots.by_slot.items()}
    write_field(gateway, slots["ant"], "transmit_bytes", 5)
    write_field(gateway, slots["bee"], "dropped_packets", 2)
    write_field(gateway, slots["bee"], "no_session_packets", 40)
    with tcp_pair() as (one, _):
        gateway.links.by_slot[slots["bee"]] = link_over(one)
        assert by_peer(collector, "fastun_peer_up") == {"ant": 0, "bee": 1}
        assert by_peer(collector, "fastun_peer_info") == {"bee": 1}
        assert by_peer(collector, "fastun_tcp_rtt_seconds").keys() == {"bee"}
        assert by_peer(collector, "fastun_tcp_retransmits") == {"ant": 0, "bee": 0}
    assert by_peer(collector, "fastun_peer_transmit_bytes") == {"ant": 5, "bee": 0}
    assert by_peer(collector, "fastun_peer_dropped_packets") == {"ant": 0, "bee": 42}


def test_a_changed_peer_counts_from_zero_and_a_removed_one_is_gone(
    gateway: Gateway, collector: GatewayCollector
) -> None:
    name = "fastun_peer_receive_bytes"
    have(gateway, *peers_named("ant", "bee"))
    write_field(gateway, 0, "receive_bytes", 7)
    assert by_peer(collector, name) == {"ant": 7, "bee": 0}
    (_, bee) = peers_named("ant", "bee")
    have(gateway, Peer(name="ant", public_key=bytes(32)), bee)
    assert by_peer(collector, name) == {"ant": 0, "bee": 0}
    have(gateway, bee)
    assert by_peer(collector, name) == {"bee": 0}


def test_what_a_peer_says_of_itself_cannot_break_the_format(
    gateway: Gateway, collector: GatewayCollector
) -> None:
    with tcp_pair() as (one, _):
        evil = 'evil"} 1\nfastun_x{a="\\'
        have(gateway, *peers_named(evil))  # as no peer can be called
        (slot,) = gateway.peer_slots.by_slot
        gateway.links.by_slot[slot] = link_over(one, software=evil)
        families = collect(collector)
    assert "fastun_x" not in families
    (sample,) = families["fastun_peer_info"].samples
    assert sample.labels["peer"] == evil
    assert sample.labels["software"] == "other"


def test_however_often_a_peer_changes_its_name_it_has_a_few_series(
    gateway: Gateway, collector: GatewayCollector
) -> None:
    have(gateway, *peers_named("ant", "bee"))

    def label_of(slot: int, software: str) -> str:
        gateway.links.by_slot[slot] = link_over(one, software=software)
        samples = collect(collector)["fastun_peer_info"].samples
        (mine,) = (s for s in samples if s.labels["peer"] == ("ant", "bee")[slot])
        return mine.labels["software"]

    with tcp_pair() as (one, _):
        assert label_of(0, "WireGuard") == "WireGuard"
        said = [f"fastun 0.{n}.0" for n in range(20)] + [f"me {n}" for n in range(20)]
        labels = {label_of(0, software) for software in said}
        assert labels == {"fastun 0.0.0", "fastun 0.1.0", "fastun 0.2.0", "other"}
        assert label_of(0, "fastun 0.1.0") == "fastun 0.1.0"
        assert label_of(1, "fastun 0.99.0") == "fastun 0.99.0"
        assert label_of(1, "fastun 1" + "0" * 50) == "other"
        assert label_of(1, "fastun 1.2\u202e") == "other"


def test_only_the_sealed_wire_has_handshakes(gateway: Gateway, collector: GatewayCollector) -> None:
    names = ("fastun_handshakes", "fastun_rekeys", "fastun_peer_last_handshake_timestamp_seconds")
    assert [collect(collector)[name].samples for name in names] == [[], [], []]

    keys = KeyPair(bytes(32), bytes(32))
    exchange = KeyExchange(gateway.peer_slots, keys, lambda _: pytest.fail("no hello"))
    gateway.handshaker = SealedHandshaker(exchange)
    handshakes, rekeys, last = (collect(collector)[name].samples for name in names)
    assert {(s.labels["result"], s.value) for s in handshakes} == {
        (result, 0) for result in ("ok", *Refusal)
    }
    assert [(s.labels, s.value) for s in (*rekeys, *last)] == [({}, 0), ({"peer": "peer"}, 0)]

    exchange.results[Refusal.BAD_MAC1] += 2
    gateway.session_counts.n_rekeys = 3
    gateway.session_counts.last_handshake[0] = 1.7e9 + 0.25
    handshakes, rekeys, last = (collect(collector)[name].samples for name in names)
    assert {s.labels["result"]: s.value for s in handshakes if s.value} == {"bad_mac1": 2}
    assert [s.value for s in (*rekeys, *last)] == [3, 1.7e9 + 0.25]


def test_so_many_peers_can_be_connected_and_all_are_shown(
    collector: GatewayCollector,
) -> None:
    assert [s.value for s in collect(collector)["fastun_peers_max"].samples] == [1]  # plain
    with idle_gateway(load("serve", None, Options())) as sealed, viewing(sealed) as viewer:
        have(sealed, *peers_named(*(f"peer{n}" for n in range(1030))))
        collected = collect(GatewayCollector(viewer.view))
        room = collected["fastun_peers_max"].samples
        assert [s.value for s in room] == [PEER_SLOTS]
        assert len(collected["fastun_peer_up"].samples) == 1030, "absent ones as well"


def test_a_scrape_names_each_of_a_thousand_peers(
    gateway: Gateway, collector: GatewayCollector
) -> None:
    # What it costs is measured in bench/micro/test_scrape.py.
    have(gateway, *peers_named(*(f"peer{n}" for n in range(1000))))
    with tcp_pair() as (one, _):
        gateway.links.by_slot.update({slot: link_over(one) for slot in gateway.peer_slots.by_slot})
        scraped = text(collector)
    for n in range(1000):
        assert f'\nfastun_peer_up{{peer="peer{n}"}} 1.0\n' in scraped


def test_the_kernels_counts_of_a_link_go_on_where_the_link_before_ended(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, collector: GatewayCollector
) -> None:
    # The kernel's figures cannot be produced at will, so they are given here.
    figures: dict[int, int] = {}

    def tcp_info(connection: socket.socket) -> native.TcpInfo:
        link_id = cast("int", connection)
        if link_id not in figures:
            raise OSError
        return native.TcpInfo(0.001, figures[link_id], 0)

    def socket_state(connection: socket.socket) -> SocketState:
        return SocketState(0, tcp_info(connection).n_retransmits * 10)

    monkeypatch.setattr(native, "tcp_info", tcp_info)
    monkeypatch.setattr(gateway_viewer, "socket_state", socket_state)
    monkeypatch.setattr(gateway_viewer, "_has_room", lambda *_: True)

    def see(link_id: int | None, n_retransmits: int | None) -> float:
        figures.clear()
        if link_id is None:
            gateway.links.by_slot.clear()
        else:
            gateway.links.by_slot[0] = link_over(link_id, link_id)
            if n_retransmits is not None:
                figures[link_id] = n_retransmits
        drops = by_peer(collector, "fastun_socket_drops")["peer"]
        retransmits = by_peer(collector, "fastun_tcp_retransmits")["peer"]
        assert drops == 10 * retransmits
        return retransmits

    assert see(None, None) == 0
    assert see(1, 5) == 5
    assert see(1, 7) == 7
    assert see(None, None) == 7
    assert see(2, None) == 7  # it ended between the two looks of one scrape
    assert see(2, 1) == 8
    assert see(5, 0) == 8
    assert see(5, 2) == 10


def test_a_counter_whose_parts_lag_does_not_go_back(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, collector: GatewayCollector
) -> None:
    seconds = iter([2.0, 1.5, 2.5])
    worker = gateway.lanes.first.workers["tun-reader"]
    monkeypatch.setattr(worker, "cpu_seconds", lambda: next(seconds))
    seen = [
        sample.value
        for _ in range(3)
        for sample in collect(collector)["fastun_worker_cpu_seconds"].samples
        if sample.labels["role"] == "tun-reader"
    ]
    assert seen == [2.0, 2.0, 2.5]


def test_a_scrape_outlives_the_lanes_memory(gateway: Gateway) -> None:
    viewer = Viewer(gateway)
    collector = GatewayCollector(viewer.view)
    lane = gateway.lanes.first
    lane.stats.close()
    lane.peers.close()
    for ring in lane.rings.values():
        ring.close()
    assert len(collect(collector)) == len(FAMILIES)
    viewer.close()
    assert text(collector) == ""
    lane.stats = native.Stats.create()  # for the fixture to close
    lane.peers = native.PeerTable.create()
    lane.rings = {}


# -- what the workers do ------------------------------------------------------------------------


def states(collector: GatewayCollector) -> dict[str, str]:
    """Return the state of each role; every role is in exactly one."""
    samples = [s for s in collect(collector)["fastun_worker_state"].samples if s.value]
    found = {sample.labels["role"]: sample.labels["state"] for sample in samples}
    assert len(samples) == len(found) == len(ROLES)
    return found


def test_a_worker_is_busy_while_something_waits_and_blocked_while_it_has_no_room(
    gateway: Gateway, collector: GatewayCollector
) -> None:
    assert set(states(collector).values()) == {"idle"}
    cast("SimpleNamespace", gateway.device).has_frames = lambda: True
    assert states(collector)["tun-reader"] == "busy"
    fill_ring(gateway, "outbound", 0.5)
    assert states(collector)["tun-reader"] == "busy"
    assert states(collector)["link-writer"] == "blocked", "there is no link"
    fill_ring(gateway, "outbound", 0.9)
    assert states(collector)["tun-reader"] == "blocked"
    with tcp_pair() as (one, other):
        gateway.links.by_slot[0] = link_over(one)
        other.send(b"data")
        assert states(collector)["link-reader"] == "busy"
        fill_ring(gateway, "inbound", 0.9)
        assert states(collector)["link-reader"] == "blocked"
        assert states(collector)["tun-writer"] == "busy"
        assert states(collector)["link-writer"] == "busy"
        fill(one)
        assert states(collector)["link-writer"] == "blocked"
        one.close()
        assert states(collector)["link-writer"] == "busy"


def test_the_errors_of_a_peer_are_counted_and_the_last_is_shown_until_it_connects(
    gateway: Gateway, collector: GatewayCollector
) -> None:
    have(gateway, *peers_named("ant", "bee"))
    errors = gateway.peer_slots.by_slot[0].errors
    before = time.time()
    errors.note(Reason.NO_ANSWER, "nothing")
    errors.note(Reason.NOT_OPENED, "it does not open")
    families = collect(collector)
    (last,) = families["fastun_peer_last_error_timestamp_seconds"].samples
    assert last.labels == {"peer": "ant", "reason": "not_opened"}
    assert last.value >= before
    counted = families["fastun_peer_errors"].samples
    assert {(s.labels["peer"], s.labels["reason"], s.value) for s in counted} == {
        ("ant", "no_answer", 1),
        ("ant", "not_opened", 1),
    }
    errors.clear()
    families = collect(collector)
    assert families["fastun_peer_last_error_timestamp_seconds"].samples == []
    assert len(families["fastun_peer_errors"].samples) == 2
