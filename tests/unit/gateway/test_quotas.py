"""Quotas: what peers have used counts over restarts and months, and holds them to the rest."""

from __future__ import annotations

import calendar
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import structlog

from fastun import log
from fastun.errors import RuntimeFailure
from fastun.gateway.quotas import SAVE_S, Quotas
from fastun.lane.messages import SetTerms
from fastun.link.peer_slots import PeerSlots
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.peers.terms import Quota, RateLimit, Terms, Usage
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = float(calendar.timegm((2026, 11, 30, 12, 0, 0)))
DECEMBER = float(calendar.timegm((2026, 12, 1, 0, 0, 0)))
MONTH = "2026-11"


@pytest.fixture(autouse=True)
def logged() -> Iterator[None]:
    log.configure("console", 0)
    yield
    structlog.reset_defaults()


def peer(quota: int | None, then: int = 0, name: str = "ant", **limit: int) -> Peer:
    return Peer(
        name=name,
        public_key=b"a" * 32,
        terms=Terms(
            quota=None if quota is None else Quota(month_bytes=quota, then_rate=then),
            limit=RateLimit(**limit),
        ),
    )


class Counting:
    """A lane whose peer table says what the test has counted, and the peers on it."""

    def __init__(self, *peers: Peer) -> None:
        self.received = self.sent = 0
        self.lane = RecordingLane()
        self.lane.peers = SimpleNamespace(clear=lambda _: None, read=self._read)
        self.peer_slots = PeerSlots(self.lane.as_lane())
        self.peer_slots.replace(peers)
        self.lane.take()

    def _read(self, _: int, field: str) -> int:
        return {"receive_bytes": self.received, "transmit_bytes": self.sent}.get(field, 0)

    @property
    def used(self) -> int:
        return self.peer_slots.by_slot[0].quota_used_bytes

    def sent_terms(self) -> list[tuple[str, int, bool]]:
        taken = self.lane.take()
        return [(role, m.rate, m.is_cut_off) for role, m in taken if isinstance(m, SetTerms)]


def test_both_directions_count_from_the_first_look_on() -> None:
    counting = Counting(peer(1000))
    counting.received = 5000
    quotas = Quotas(counting.peer_slots, {})
    quotas.tick(NOW)
    assert counting.used == 0, "what passed before there was a quota"
    counting.received, counting.sent = 5100, 50
    quotas.tick(NOW + 1)
    assert counting.used == 150


def test_a_peer_over_its_quota_is_cut_off_once_and_back_with_a_larger_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counting = Counting(peer(1000))
    quotas = Quotas(counting.peer_slots, {"ant": Usage(MONTH, 900)})
    quotas.tick(NOW)
    assert counting.sent_terms() == []
    counting.sent = 100
    for _ in range(3):
        quotas.tick(NOW + 1)
    assert counting.sent_terms() == [("tun-reader", 0, True), ("link-reader", 0, True)]
    assert capsys.readouterr().err.count("has used up its quota of the month") == 1
    counting.peer_slots.replace([peer(2000)])
    quotas.tick(NOW + 2)
    assert counting.sent_terms()[-2:] == [("tun-reader", 0, False), ("link-reader", 0, False)]
    assert counting.used == 1000


def test_a_peer_is_slowed_where_its_quota_says_so_and_never_made_faster() -> None:
    counting = Counting(peer(1000, then=5000, outbound=1000))
    quotas = Quotas(counting.peer_slots, {"ant": Usage(MONTH, 1000)})
    quotas.tick(NOW)
    assert counting.sent_terms() == [("tun-reader", 1000, False), ("link-reader", 5000, False)]


def test_a_month_begins_anew() -> None:
    counting = Counting(peer(1000))
    quotas = Quotas(counting.peer_slots, {"ant": Usage(MONTH, 1000)})
    quotas.tick(DECEMBER - 1)
    assert counting.sent_terms()[0][2]
    quotas.tick(DECEMBER)
    assert not counting.sent_terms()[0][2]
    assert counting.used == 0
    counting.sent = 7
    quotas.tick(DECEMBER + 1)
    assert counting.used == 7


def test_without_its_quota_a_peer_is_free() -> None:
    counting = Counting(peer(1000))
    quotas = Quotas(counting.peer_slots, {"ant": Usage(MONTH, 1000)})
    quotas.tick(NOW)
    counting.sent_terms()
    counting.peer_slots.replace([peer(None)])
    quotas.tick(NOW + 1)
    assert counting.sent_terms()[-1] == ("link-reader", 0, False)


def test_a_new_worker_hears_that_a_peer_is_cut_off() -> None:
    counting = Counting(peer(1000))
    Quotas(counting.peer_slots, {"ant": Usage(MONTH, 1000)}).tick(NOW)
    counting.sent_terms()
    counting.peer_slots.tell_worker(counting.lane.worker("link-reader"))
    assert counting.sent_terms() == [("link-reader", 0, True)]


def test_a_peer_that_leaves_its_slot_leaves_no_terms_to_the_next() -> None:
    counting = Counting(peer(1000, inbound=1000))
    counting.peer_slots.replace([])
    assert counting.sent_terms() == [("tun-reader", 0, False), ("link-reader", 0, False)]


def test_what_was_used_is_saved_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    counting = Counting(peer(1000))
    with PeerStore(tmp_path) as store:
        store.add(peer(1000))
        quotas = Quotas(counting.peer_slots, store.usage())
        quotas.tick(NOW)
        quotas.save(store, NOW)
        counting.sent = 10
        quotas.tick(NOW + 1)
        quotas.save(store, NOW + 1)
        assert store.usage() == {}
        quotas.save(store, NOW + SAVE_S)
        assert store.usage() == {"ant": Usage(MONTH, 10)}
        counting.sent = 20
        quotas.tick(NOW + SAVE_S)
        quotas.save(store, NOW + SAVE_S, at_once=True)
        assert store.usage() == {"ant": Usage(MONTH, 20)}
        version = store.version()
    with PeerStore(tmp_path) as store:
        assert store.version() == version, "it is not a change of peers"
        again = Counting(peer(1000))
        Quotas(again.peer_slots, store.usage()).tick(NOW + 60)
        assert again.used == 20


def test_what_cannot_be_saved_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeFailure("no space left on the disk")

    counting = Counting(peer(1000))
    with PeerStore(tmp_path) as store:
        store.add(peer(1000))
        quotas = Quotas(counting.peer_slots, {})
        quotas.tick(NOW)
        with monkeypatch.context() as patch:
            patch.setattr(PeerStore, "remember_usage", fail)
            with pytest.raises(RuntimeFailure):
                quotas.save(store, NOW, at_once=True)
        quotas.save(store, NOW + SAVE_S)
        assert store.usage() == {"ant": Usage(MONTH, 0)}
