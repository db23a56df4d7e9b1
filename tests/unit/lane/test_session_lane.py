"""Sessions on UDP in several lanes: what goes to which, and the indices that say so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.lane.endpoint_messages import SetEndpoint
from fastun.lane.messages import AddSocket, RemoveSocket, SendKeepalive
from fastun.lane.session_lane import LanesBySlot, of_slot
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from fastun.lane.lane import Lane


def lanes_of(n_lanes: int) -> list[RecordingLane]:
    lanes = [RecordingLane() for _ in range(n_lanes)]
    for i, lane in enumerate(lanes):
        lane.index = i
        lane.peers = SimpleNamespace(
            read=lambda slot, field, i=i: (i, slot, field), endpoint=lambda slot, i=i: (i, slot)
        )
        lane.sending = cast(
            "Any", SimpleNamespace(begin=lambda slot, n_used=0, i=i: (i, slot, n_used))
        )
    return lanes


def by_slot(lanes: list[RecordingLane]) -> LanesBySlot:
    return LanesBySlot(cast("list[Lane]", lanes))


def test_what_is_said_of_a_peer_goes_to_its_lane_and_what_is_said_of_none_to_all() -> None:
    lanes = lanes_of(3)
    together = by_slot(lanes)
    together.send("tun-reader", SendKeepalive(7))
    together.send("link-reader", SetEndpoint(3, b""))
    together.send("link-writer", RemoveSocket(1))
    removed = ("link-writer", RemoveSocket(1))
    assert [lane.take() for lane in lanes] == [
        [("link-reader", SetEndpoint(3, b"")), removed],
        [("tun-reader", SendKeepalive(7)), removed],
        [removed],
    ]


def test_each_lane_gets_a_socket_of_its_own() -> None:
    lanes = lanes_of(2)
    by_slot(lanes).pass_socket("link-reader", AddSocket(0, has_offload=True), [10, 11])
    assert [lane.sent[0][2] for lane in lanes] == [10, 11]


def test_what_a_peers_lane_has_counted_is_read() -> None:
    together = by_slot(lanes_of(4))
    assert together.peers.read(6, "received_ns") == (2, 6, "received_ns")
    assert together.peers.endpoint(5) == (1, 5)
    assert together.sending.begin(7, n_used=1) == (3, 7, 1)


@pytest.mark.parametrize("n_lanes", [2, 3, 5, 16])
def test_an_index_leads_to_the_lane_of_its_slot_and_is_random_all_the_same(n_lanes: int) -> None:
    lanes = lanes_of(n_lanes)
    together = by_slot(lanes)
    for slot in range(2 * n_lanes):
        indices = {together.new_index(slot) for _ in range(200)}
        assert len(indices) == 200
        lane = of_slot(cast("list[Lane]", lanes), slot).index
        assert {(index & 0xFF) % n_lanes for index in indices if index is not None} == {lane}
        assert max(index or 0 for index in indices) < 2**32
