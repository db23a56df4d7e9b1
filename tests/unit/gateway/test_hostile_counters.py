"""The largest numbers there are, written into shared memory by a broken-into worker."""

from __future__ import annotations

import calendar
import mmap
import os
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from fastun import codec
from fastun.capture import pcapng
from fastun.gateway.quotas import Quotas
from fastun.metrics.collector import GatewayCollector
from fastun.native import COUNT_MAX, PEER_FIELDS, CaptureStage, Ring
from fastun.native.capture import CaptureReader
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.peers.terms import Quota, Terms, Usage
from fastun.status.control import REPLY_BYTES_MAX, Reply
from fastun.status.reading import read_status
from tests.support.idle_gateway import have, idle_gateway, peers_named, viewing

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.gateway.gateway import Gateway

NOW = float(calendar.timegm((2026, 11, 30, 12, 0, 0)))
ANT = Peer(name="ant", public_key=b"a" * 32, terms=Terms(quota=Quota(month_bytes=1000)))


def write_everywhere(fd: int, byte: bytes, first: int = 0) -> None:
    with mmap.mmap(fd, 0) as memory:
        memory[first:] = byte * (len(memory) - first)


def write_all(gateway: Gateway, byte: bytes = b"\xff") -> None:
    write_everywhere(gateway.lanes.first.stats.fd, byte)
    write_everywhere(gateway.lanes.first.peers.fd, byte)


def test_a_count_is_bounded_where_it_is_read() -> None:
    with idle_gateway() as gateway:
        write_all(gateway)
        for field in PEER_FIELDS:
            assert gateway.lanes.first.peers.read(0, field) == COUNT_MAX
        assert {n for _, n in gateway.lanes.first.stats.drops()} == {COUNT_MAX}


def test_what_a_peer_has_used_can_be_stored_however_often_it_comes(tmp_path: Path) -> None:
    with idle_gateway() as gateway, PeerStore(tmp_path) as store:
        have(gateway, ANT)
        quotas = Quotas(gateway.peer_slots, {})
        for byte in (b"\0", b"\xff", b"\0", b"\xff", b"\0", b"\xff"):
            write_all(gateway, byte)
            quotas.tick(NOW)
        quotas.save(store, NOW, at_once=True)
        assert store.usage() == {"ant": Usage("2026-11", COUNT_MAX)}


def test_status_and_metrics_are_still_to_be_had() -> None:
    with idle_gateway() as gateway, viewing(gateway) as viewer:
        for peers in (["ant"], ["bee"], ["ant"], ["bee"], ["ant"]):  # each goes and comes again
            have(gateway, *peers_named(*peers))
            write_all(gateway)
        status = read_status(viewer.view())
        assert codec.unpack(codec.pack(Reply(status=status)), Reply, REPLY_BYTES_MAX)
        registry = CollectorRegistry()
        registry.register(GatewayCollector(viewer.view))
        assert b"fastun_" in generate_latest(registry)


@pytest.mark.parametrize("n_rings", [1, 4])
def test_a_capture_says_how_much_was_lost(n_rings: int) -> None:
    rings = [Ring.create(1 << 18) for _ in range(n_rings)]
    for ring in rings:
        # Behind the size and the two ends of the ring, which are looked at when it is mapped.
        with mmap.mmap(ring.fd, 4096) as memory:
            memory[320:] = b"\xff" * (4096 - 320)
    fds = [os.dup(ring.fd) for ring in rings]
    reader = CaptureReader(fds, 1 << 18, {CaptureStage.DEVICE: 0})
    n_lost = reader.n_lost(CaptureStage.DEVICE)
    assert n_lost == COUNT_MAX
    assert pcapng.statistics(0, 1, 2, n_received=n_lost + 5, n_dropped=n_lost)
    reader.close()
    for ring in rings:
        ring.close()
