"""Links of one peer in several lanes: what the tun-readers hear, and when each is used."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.lane.messages import AttachLink, DetachLink, LinkFormat
from fastun.lane.ways import SetWays
from fastun.link.established import Established
from fastun.link.peer_lanes import PeerLanes, has_one_lane
from fastun.link.slotted_peer import SlottedPeer
from fastun.link.table import LinkTable
from fastun.native import Mode, Wire
from fastun.peers.peer import Peer
from fastun.peers.terms import USUAL, Quota, RateLimit, Terms
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Iterator

N_LANES = 3
SLOT = 5
FORMAT = LinkFormat(
    Wire.WIREGUARD, Mode.TUN, super_outbound=True, super_inbound=True, message_max=60000
)


class SeveralLanes:
    """Lanes of a gateway without workers, and the ways that each was sent."""

    def __init__(self) -> None:
        self.all = tuple(RecordingLane() for _ in range(N_LANES))
        for i, lane in enumerate(self.all):
            lane.index = i
        self.first = self.all[0]
        self.ways: list[tuple[int, SetWays]] = []
        self.opened: set[int] = set()

    def of_stream(self, slot: int, number: int = 0) -> RecordingLane:
        return self.all[(slot + number) % N_LANES]

    def of_datagrams(self, _: int) -> RecordingLane:
        return self.first

    def open(self, lane: RecordingLane) -> None:
        self.opened.add(lane.index)

    def set_ways(self, ways: SetWays, lane: RecordingLane | None = None) -> None:
        self.ways += [(each.index, ways) for each in (self.all if lane is None else (lane,))]

    def take(self) -> list[tuple[int, SetWays]]:
        taken, self.ways = self.ways, []
        return taken


@pytest.fixture
def lanes() -> SeveralLanes:
    return SeveralLanes()


@pytest.fixture
def table(lanes: SeveralLanes) -> LinkTable:
    return LinkTable(cast("Any", lanes), FORMAT)


HOLDER = SlottedPeer(SLOT, Peer(name="ant", public_key=bytes(32)))


@pytest.fixture
def ends() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for end in made:
        end.close()


def attach(table: LinkTable, ends: list[socket.socket], number: int, bundle: int = 7) -> Any:
    ours, theirs = socket.socketpair()
    ends += [ours, theirs]
    established = Established(HOLDER, FORMAT, "test", number=number, bundle=bundle)
    return table.attach_stream(established, ours, "somewhere")


def all_are_sent(lanes: SeveralLanes, *carrying: int) -> bool:
    ways = SetWays(SLOT, carrying, by_flow=False)
    return lanes.take() == [(i, ways) for i in range(N_LANES)]


def test_the_first_link_is_used_at_once_and_a_further_one_when_its_tun_reader_has_it(
    lanes: SeveralLanes, table: LinkTable, ends: list[socket.socket]
) -> None:
    first = attach(table, ends, 0)
    assert lanes.take() == []
    assert lanes.opened == set()
    table.of_peers.announce(first)
    assert lanes.opened == {2}
    assert all_are_sent(lanes, 2)
    second = attach(table, ends, 1)
    table.of_peers.announce(second)
    ((lane, ways),) = lanes.take()
    assert (lane, ways.lanes) == (0, (0, 2))
    assert ways.number > 0
    table.of_peers.on_set(SLOT, ways.number + 1, lane)
    table.of_peers.on_set(SLOT + 1, ways.number, lane)
    table.of_peers.on_set(SLOT, ways.number, lane + 1)  # another lane's, which cannot know
    assert lanes.take() == []
    table.of_peers.on_set(SLOT, ways.number, lane)
    assert all_are_sent(lanes, 0, 2)
    assert table.by_slot[SLOT] is first


def test_a_tun_reader_that_was_killed_before_it_answered_is_asked_again(
    lanes: SeveralLanes, table: LinkTable, ends: list[socket.socket]
) -> None:
    table.of_peers.announce(attach(table, ends, 0))
    table.of_peers.announce(attach(table, ends, 1))
    number = lanes.take()[-1][1].number
    table.of_peers.tell(cast("Any", SimpleNamespace(role="tun-reader", lane=0)))
    assert lanes.take() == [(0, SetWays(SLOT, (0, 2), by_flow=False, number=number))]
    table.of_peers.tell(cast("Any", SimpleNamespace(role="tun-reader", lane=2)))
    assert lanes.take() == [(2, SetWays(SLOT, (0, 2), by_flow=False))]
    table.of_peers.on_set(SLOT, number, 0)
    assert all_are_sent(lanes, 0, 2)


def test_a_lane_that_ends_leaves_the_others_and_the_peer_stays_up(
    lanes: SeveralLanes, table: LinkTable, ends: list[socket.socket]
) -> None:
    changes: list[tuple[int, bool]] = []
    table.follow(lambda link, is_up: changes.append((link.id, is_up)))
    links = [attach(table, ends, number) for number in range(N_LANES)]
    lanes.take()
    table.end_streams("a worker died", links[0].lane.index)
    assert all_are_sent(lanes, 0, 1)
    assert links[0].ended.is_set()
    assert table.by_slot[SLOT] is links[1]
    assert table.by_slot[SLOT].since == links[0].since
    assert changes == [(1, True)]
    again = attach(table, ends, 0)
    assert table.of_peers.of(SLOT) == (links[1], links[2], again)
    table.keep_first(SLOT, "the peer has a rate limit now")
    assert table.of_peers.of(SLOT) == (links[1],)
    table.end(SLOT, "stopping")
    assert changes == [(1, True), (2, False)]
    assert table.n_established == 1


def test_the_connection_of_a_lane_that_is_made_again_replaces_its_own_only(
    table: LinkTable, ends: list[socket.socket]
) -> None:
    first, second = attach(table, ends, 0), attach(table, ends, 1)
    again = attach(table, ends, 1)
    assert second.ended.is_set()
    assert table.of_peers.of(SLOT) == (first, again)
    assert not first.ended.is_set()


def test_a_client_that_has_started_anew_replaces_all(
    lanes: SeveralLanes, table: LinkTable, ends: list[socket.socket]
) -> None:
    before = [attach(table, ends, 0), attach(table, ends, 1)]
    for bundle in (8, 0, 0):  # 0: an older one's, each of which is alone
        after = attach(table, ends, 0, bundle)
        assert all(link.ended.is_set() for link in before)
        assert table.of_peers.of(SLOT) == (after,)
        before = [after]
    assert ("link-reader", DetachLink(SLOT)) in lanes.all[0].take()


def test_udp_takes_over_from_all_streams(
    lanes: SeveralLanes, table: LinkTable, ends: list[socket.socket]
) -> None:
    async def claim() -> None:
        streams = [attach(table, ends, 0), attach(table, ends, 1)]
        for lane in lanes.all:
            lane.take()
        link = table.attach_datagrams(HOLDER, FORMAT, "elsewhere")
        assert all_are_sent_last(lanes, 0)
        assert table.of_peers.of(SLOT) == (link,)
        assert all(stream.ended.is_set() for stream in streams)
        assert lanes.all[2].take() == [
            ("link-writer", DetachLink(SLOT)),
            ("tun-reader", DetachLink(SLOT)),
        ]
        assert [type(each) for _, each in lanes.all[0].take()] == [AttachLink, AttachLink]
        table.end_all("stopping")
        assert lanes.all[2].take() == [("link-reader", DetachLink(SLOT))]

    import asyncio  # noqa: PLC0415 (this one alone needs a loop)

    asyncio.run(claim())


def all_are_sent_last(lanes: SeveralLanes, *carrying: int) -> bool:
    lanes.ways = lanes.ways[-N_LANES:]
    return all_are_sent(lanes, *carrying)


def test_what_is_held_to_a_rate_has_one_lane() -> None:
    assert not has_one_lane(USUAL)
    assert has_one_lane(Terms(limit=RateLimit(inbound=1000)))
    assert has_one_lane(Terms(limit=RateLimit(outbound=1000)))
    assert has_one_lane(Terms(quota=Quota(month_bytes=1000)))


def test_the_dialling_side_decides_by_flow(lanes: SeveralLanes) -> None:
    links = PeerLanes(cast("Any", lanes), by_flow=True)
    link = SimpleNamespace(slot=1, lane=lanes.all[1], sealed_for=None)
    links.add(cast("Any", link))
    links.announce(cast("Any", link))
    assert lanes.take() == [(i, SetWays(1, (1,), by_flow=True)) for i in range(N_LANES)]


# -- whose word counts ------------------------------------------------------------------------


def test_a_link_is_known_in_its_own_lane_only(
    lanes: SeveralLanes, table: LinkTable, ends: list[socket.socket]
) -> None:
    link = attach(table, ends, 0)
    other = (link.lane.index + 1) % N_LANES
    assert not table.is_of_another_lane(SLOT, link.id, link.lane.index)
    assert table.is_of_another_lane(SLOT, link.id, other)
    assert not table.is_of_another_lane(SLOT, link.id + 1, other), "there is no such link"
    assert not table.is_of_another_lane(SLOT + 1, link.id, other)
    lanes.take()


def test_a_lane_has_to_do_with_the_peers_that_it_carries_and_those_that_it_has_just_let_go(
    lanes: SeveralLanes, table: LinkTable, ends: list[socket.socket]
) -> None:
    link = attach(table, ends, 0)
    concerned = {lanes.of_datagrams(SLOT).index, link.lane.index}
    assert {lane for lane in range(N_LANES) if table.concerns(SLOT, lane)} == concerned
    table.end(SLOT, "over")
    assert {lane for lane in range(N_LANES) if table.concerns(SLOT, lane)} == concerned
    table.leave(SLOT, "over")
    assert not table.concerns(SLOT, link.lane.index)


def test_all_hear_by_what_each_lane_seals_for_a_peer_on_udp_and_not_before_a_new_lane_has(
    lanes: SeveralLanes,
) -> None:
    links = PeerLanes(cast("Any", lanes), by_flow=False)
    first, second = (
        cast("Any", SimpleNamespace(slot=SLOT, lane=lanes.all[n], sealed_for=None)) for n in (0, 1)
    )
    links.add(first)
    links.announce(first)
    lanes.take()
    links.note_sealed(first, 7)
    assert lanes.take() == [(n, SetWays(SLOT, (0,), False, 0, (7,))) for n in range(N_LANES)]
    links.add(second)
    links.announce(second)
    ((lane, ways),) = lanes.take()
    assert lane == 1
    links.note_sealed(second, 8)
    assert lanes.take() == []
    links.on_set(SLOT, ways.number, 1)
    assert lanes.take() == [(n, SetWays(SLOT, (0, 1), False, 0, (7, 8))) for n in range(N_LANES)]
    links.remove(first)
    assert lanes.take() == [(n, SetWays(SLOT, (1,), False, 0, (8,))) for n in range(N_LANES)]
    links.note_sealed(None, 9)
    assert lanes.take() == []
