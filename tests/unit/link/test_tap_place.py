"""The one place at a TAP device: for whichever peer comes first, as long as it is connected."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from fastun import log
from fastun.lane.messages import AddReceivingKey, ForgetReceivingKeys
from fastun.link import tap_place
from fastun.link.peer_slots import SlottedPeer
from fastun.link.tap_place import TapPlace
from fastun.peers.peer import Peer
from fastun.session.refusal import HandshakeError, Refusal
from tests.support.datagram_pair import Pair, run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _logged() -> Iterator[None]:
    log.configure("console", 0)
    yield
    structlog.reset_defaults()


def slotted(slot: int) -> SlottedPeer:
    return SlottedPeer(slot, Peer(name=f"peer{slot}", public_key=bytes([slot]) * 32))


def links_of(*slots: int) -> Any:
    return SimpleNamespace(
        by_slot={slot: SimpleNamespace(slot=slot, peer_name=f"peer{slot}") for slot in slots}
    )


def test_the_first_to_come_has_the_place_whatever_its_slot() -> None:
    links = links_of()
    place = TapPlace("tap", links)
    for slot in (0, 5):
        place.check(slotted(slot))
    links.by_slot = links_of(5).by_slot
    place.check(slotted(5))  # it connects anew
    with pytest.raises(HandshakeError, match="tap_in_use"):
        place.check(slotted(0))
    links.by_slot.clear()
    place.check(slotted(0))


def test_a_tun_device_has_room_for_all() -> None:
    TapPlace("tun", links_of(1, 2, 3)).check(slotted(4))


def test_a_refusal_is_logged_once_a_minute_with_the_connected_peer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(tap_place, "time", SimpleNamespace(monotonic=lambda: now.s))
    place = TapPlace("tap", links_of(2))
    for step_s in (0.0, 5.0, 5.0, 55.0):
        now.s += step_s
        with pytest.raises(HandshakeError):
            place.check(slotted(1))
    said = [line for line in capsys.readouterr().err.splitlines() if "TAP device" in line]
    assert len(said) == 2
    assert "warning" in said[0]
    assert "peer=peer1" in said[0]
    assert "connected=peer2" in said[0]


# -- on UDP -----------------------------------------------------------------------------------


class Taken:
    """A place that is another's from some check on."""

    def __init__(self, free_for: int) -> None:
        self.n_left = free_for

    def check(self, _: SlottedPeer) -> None:
        self.n_left -= 1
        if self.n_left < 0:
            raise HandshakeError(Refusal.TAP_IN_USE)


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize("free_for", [0, 1])
def test_on_udp_too_before_an_answer_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, free_for: int
) -> None:
    async def claim() -> None:
        pair = Pair()
        monkeypatch.setattr(pair.server.exchange, "_check_room", Taken(free_for).check)
        await pair.begin()
        assert pair.server.links.by_slot == {}
        assert pair.server.results()["tap_in_use"] >= 1
        has_answered = bool(pair.client.links.by_slot)
        assert has_answered == bool(free_for)
        if free_for:  # what the key would have opened is lost
            assert pair.server.told_of(ForgetReceivingKeys)

    run(claim())


@pytest.mark.usefixtures("now")
def test_a_side_that_dials_asks_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim() -> None:
        pair = Pair()
        monkeypatch.setattr(pair.client.exchange, "_check_room", Taken(0).check)
        await pair.begin()
        assert pair.client.links.by_slot == {}
        assert pair.client.results()["tap_in_use"] >= 1
        assert not pair.client.told_of(AddReceivingKey)  # asked before a key is made

    run(claim())
