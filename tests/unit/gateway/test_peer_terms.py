"""The terms of peers in a running gateway: applied within a look, and without ending a session."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
import structlog

from fastun import log
from fastun.gateway.peer_terms import PeerTerms
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.peers.peer import Peer
from fastun.peers.terms import Terms
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 86400


@pytest.fixture(autouse=True)
def logged() -> Iterator[None]:
    log.configure("console", 0)
    yield
    structlog.reset_defaults()


def peer(name: str, *, address: str = "10.9.0.2/32", **terms: object) -> Peer:
    return Peer(
        name=name,
        public_key=b"a" * 32,
        allowed_ips=(ip_network(address),),
        terms=Terms(**terms),  # type: ignore[arg-type]
    )


def slots(gone: list[SlottedPeer]) -> PeerSlots:
    return PeerSlots(RecordingLane().as_lane(), gone.append)


@pytest.mark.parametrize(
    "after", [peer("cat"), peer("ant", note="Ada's"), peer("ant", expires=DAY)], ids=str
)
def test_what_leaves_keys_and_addresses_alone_leaves_the_session_alone(after: Peer) -> None:
    gone: list[SlottedPeer] = []
    peer_slots = slots(gone)
    peer_slots.replace([peer("ant")])
    slotted = peer_slots.by_slot[0]
    assert peer_slots.replace([after])
    assert gone == []
    assert peer_slots.by_slot[0] is slotted
    assert slotted.peer == after


def test_another_pre_shared_key_ends_the_session() -> None:
    gone: list[SlottedPeer] = []
    peer_slots = slots(gone)
    peer_slots.replace([peer("ant")])
    peer_slots.replace([replace(peer("ant"), preshared_key=b"p" * 32)])
    assert len(gone) == 1


def test_an_end_is_said_a_day_and_an_hour_before_and_when_it_has_come(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terms = PeerTerms(slots([]))
    expiring = [peer("ant", expires=10 * DAY)]

    def said(now: float) -> str:
        assert terms.admitted(expiring, now) == (expiring if now < 10 * DAY else [])
        return capsys.readouterr().err

    assert said(8 * DAY) == ""
    assert not terms.is_due(9 * DAY - 1)
    assert terms.is_due(9 * DAY)
    assert "access ends soon" in said(9 * DAY)
    assert said(9 * DAY + 1) == "", "once"
    assert terms.is_due(10 * DAY - 3600)
    assert said(10 * DAY - 3600).count("access ends soon") == 1
    assert terms.is_due(10 * DAY)
    assert "it is expired" in said(10 * DAY)
    assert not terms.is_due(1e12)
    assert said(11 * DAY) == ""


def test_a_gateway_that_starts_late_says_an_end_once(capsys: pytest.CaptureFixture[str]) -> None:
    terms = PeerTerms(slots([]))
    terms.admitted([peer("ant", expires=10 * DAY)], 10 * DAY - 60)
    assert capsys.readouterr().err.count("access ends soon") == 1


def test_a_barred_peer_is_named_where_it_is_refused() -> None:
    peer_slots = slots([])
    terms = PeerTerms(peer_slots)
    terms.admitted([peer("ant", enabled=False)], 0)
    assert peer_slots.why_barred(b"a" * 32) == ("ant", "disabled")
    terms.admitted([peer("ant")], 0)
    assert peer_slots.why_barred(b"a" * 32) is None
