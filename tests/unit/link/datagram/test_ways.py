"""Further lanes of a peer on UDP, between two sides: agreed, proven, renewed, and let go."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.lane.messages import AddReceivingKey, ForgetReceivingKeys, SetPacketMax, SetSendingKey
from fastun.link.datagram.way import (
    OPENED_AT_PER_S,
    OTHER_PORT_AFTER_S,
    OTHER_PORT_EVERY_S,
    SILENT_S,
)
from fastun.native import UdpAddress
from fastun.peers.terms import RateLimit, Terms
from fastun.session import messages
from tests.support.datagram_pair import run
from tests.support.several_lanes import SeveralPair

if TYPE_CHECKING:
    from tests.support.several_lanes import SeveralSide

pytestmark = pytest.mark.usefixtures("now")

BUSY = 10 * OPENED_AT_PER_S  # in a look
N_LANES = 4


def ends(pair: SeveralPair) -> tuple[SeveralSide, SeveralSide]:
    return cast("SeveralSide", pair.client), cast("SeveralSide", pair.server)


async def spread(now: SimpleNamespace, n_client: int = N_LANES, n_server: int = N_LANES) -> Any:
    """Return a pair that all common lanes carry."""
    pair = SeveralPair(n_client, n_server)
    await pair.begin()
    await pair.looks(now, 8, BUSY)
    return pair


def test_without_load_there_is_one_lane_and_the_server_is_ready_for_more(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = SeveralPair(N_LANES, N_LANES)
        client, server = ends(pair)
        await pair.begin()
        await pair.looks(now, 20)
        assert (client.lanes_of(), server.lanes_of()) == ((0,), (0,))
        assert sorted(client.opened_in.values()) == [0]
        assert sorted(server.opened_in.values()) == list(range(N_LANES))
        assert {index % 256 % N_LANES: lane for index, lane in server.opened_in.items()} == {
            lane: lane for lane in range(N_LANES)
        }, "the kernel steers each to its lane"

    run(claim())


@pytest.mark.parametrize(
    ("n_client", "n_server", "n_common"), [(4, 4, 4), (3, 4, 3), (4, 2, 2), (1, 4, 1), (4, 1, 1)]
)
def test_load_opens_as_many_as_both_have_one_after_another(
    now: SimpleNamespace, n_client: int, n_server: int, n_common: int
) -> None:
    async def claim() -> None:
        pair = SeveralPair(n_client, n_server)
        client, server = ends(pair)
        await pair.begin()
        seen = []
        for _ in range(8):
            await pair.looks(now, 1, BUSY)
            seen.append(len(client.lanes_of()))
        assert seen == sorted(seen)
        assert set(seen) >= set(range(2, n_common + 1))
        assert client.lanes_of() == server.lanes_of() == tuple(range(n_common))

    run(claim())


def test_load_opens_none_where_no_core_is_idle_and_the_device_gives_frames_to_what_is_open(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = SeveralPair(N_LANES, N_LANES)
        client, server = ends(pair)
        client.lanes.is_worth = False
        await pair.begin()
        await pair.looks(now, 8, BUSY)
        assert (client.lanes_of(), client.lanes.opened) == ((0,), {0})
        client.lanes.is_worth = True
        await pair.looks(now, 8, BUSY)
        for side in (client, server):
            assert side.lanes_of() == tuple(range(N_LANES))
            assert side.lanes.opened == set(range(N_LANES))

    run(claim())


def test_each_lane_has_a_key_and_counters_of_its_own(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = await spread(now)
        for side in ends(pair):
            keys = list(side.sealing.values())
            assert len(keys) == N_LANES
            assert len({key.receiver_index for key in keys}) == N_LANES
        sent: dict[int, list[int]] = {}
        client, server = ends(pair)
        await pair.looks(now, 1)
        now.s += 5
        client.sessions.tick()
        client.work()
        for message, _ in client.sockets.sent:
            index, counter = messages.receiver_of(message), int.from_bytes(message[8:16], "little")
            sent.setdefault(index, []).append(counter)
        assert len(sent) >= N_LANES - 1
        assert set(sent) <= set(server.opened_in)

    run(claim())


def test_a_proof_that_is_lost_is_repeated_and_before_it_nothing_goes_by_the_way(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = SeveralPair(2, 2)
        client, server = ends(pair)
        await pair.begin()
        server.is_deaf_in = {1}
        await pair.looks(now, 10, BUSY)
        assert client.lanes_of() == server.lanes_of() == (0,)
        assert 1 not in client.sealing
        server.is_deaf_in = set()
        client.is_deaf_in = {1}  # the answers are lost
        await pair.looks(now, 4, BUSY)
        assert (client.lanes_of(), server.lanes_of()) == ((0,), (0, 1))
        client.is_deaf_in = set()
        await pair.looks(now, 4, BUSY)
        assert client.lanes_of() == (0, 1)

    run(claim())


def test_a_new_session_renews_all_ways_and_the_old_keys_are_used_until_it_is_proven(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = await spread(now)
        client, server = ends(pair)
        before = dict(client.sealing)
        await renew(pair, now, deaf_in=2)
        assert client.lanes_of() == server.lanes_of() == tuple(range(N_LANES))
        changed = {lane for lane in before if client.sealing[lane] != before[lane]}
        assert changed == {0, 1, 3}
        server.is_deaf_in = set()
        await pair.looks(now, 4, BUSY)
        assert client.sealing[2] != before[2]
        assert client.lanes_of() == server.lanes_of() == tuple(range(N_LANES))

    run(claim())


async def renew(pair: SeveralPair, now: SimpleNamespace, deaf_in: int) -> None:
    """Have data of a further lane, and of no other, be what renews the session."""
    client, server = ends(pair)
    began_s = now.s
    for _ in range(126):  # looks are half a second, but what is due takes no more of them
        now.s += 1
        if now.s - began_s > 116:
            server.is_deaf_in = {deaf_in}
        client.load(BUSY)
        client.lanes.all[1].peers.note(0, "sent_data_ns", "received_ns")
        for side in (pair.client, pair.server):
            side.sessions.tick()
        await pair.settle(n_rounds=1)
        if client.counts.n_rekeys:
            break
    await pair.settle()
    assert client.counts.n_rekeys == 1


def test_a_lane_that_is_not_answered_rests_on_both_sides(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = await spread(now)
        client, server = ends(pair)
        server.is_deaf_in = client.is_deaf_in = {3}
        for _ in range(round(2 * SILENT_S) + 2):
            client.lanes.all[3].peers.note(0, "sent_data_ns")
            await pair.looks(now, 1, BUSY)
        assert client.lanes_of() == server.lanes_of() == (0, 1, 2)
        server.is_deaf_in = client.is_deaf_in = set()
        await pair.looks(now, 10, BUSY)
        assert client.lanes_of() == server.lanes_of() == (0, 1, 2, 3)

    run(claim())


def test_ways_go_where_the_peer_goes(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = await spread(now)
        client, _ = ends(pair)
        there = UdpAddress(ip_address("198.51.100.9"), 1234, local=ip_address("192.0.2.1"))
        client.lanes.first.peers.endpoints[0] = there
        await pair.looks(now, 1, BUSY)
        assert {client.leads[lane] for lane in (1, 2, 3)} == {UdpAddress(there.host, there.port)}

    run(claim())


def test_a_fresh_worker_of_a_lane_goes_on_with_its_way(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = await spread(now)
        for side in ends(pair):
            lane = side.lanes.all[2]
            key = side.sealing[2]
            for role in ("link-reader", "tun-reader", "link-writer"):
                side.sessions.tell_keys(fresh(role, 2))
            given = [message for _, message in lane.take()]
            added = [each for each in given if isinstance(each, AddReceivingKey)]
            assert [(each.is_known, side.opened_in[each.index]) for each in added] == [(True, 2)]
            assert [each for each in given if isinstance(each, SetSendingKey)] == [key]
            limits = [each for each in given if isinstance(each, SetPacketMax)]
            assert len(limits) <= 1
            assert all(not other.take() for other in side.lanes.all if other is not lane)

    run(claim())


def fresh(role: str, lane: int) -> Any:
    return SimpleNamespace(role=role, lane=lane, send=lambda *_: None)


def test_what_the_gateway_that_was_left_still_sends_proves_no_way_to_the_next(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = await spread(now)
        client, server = ends(pair)
        server.is_deaf_in = {2}  # the proof is lost
        server.address = UdpAddress(ip_address("198.51.100.9"), 1234)
        now.s += 1
        client.sessions.doubt(0)
        await pair.looks(now, 3, BUSY)
        assert client.lanes_of() == (0, 1, 3)
        now.s += 0.1
        client.lanes.all[2].peers.note(0, "received_ns")
        await pair.looks(now, 1, BUSY)
        assert client.lanes_of() == (0, 1, 3)

    run(claim())


def test_a_client_that_has_started_anew_has_one_lane_at_once(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = await spread(now)
        client, server = ends(pair)
        client.say(bundle=8)
        server.is_deaf_in = {1, 2, 3}  # it opens no ways yet
        now.s += 1
        client.sessions.doubt(0)
        await pair.settle()
        assert server.lanes_of() == (0,)

    run(claim())


def test_what_the_gateway_before_has_sent_by_ways_is_still_opened_at_the_next(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = await spread(now)
        client, server = ends(pair)
        before = set(client.receiving)
        assert len(before) == N_LANES
        server.say(bundle=9)
        server.is_deaf_in = {1, 2, 3}
        now.s += 1
        client.sessions.doubt(0)
        await pair.settle()
        assert client.lanes_of() == (0,)
        assert before < set(client.receiving)
        server.is_deaf_in = set()
        await pair.looks(now, 4, BUSY)
        assert client.lanes_of() == server.lanes_of() == tuple(range(N_LANES)), "at once"

    run(claim())


def test_a_peer_without_ways_from_now_on_has_one_lane(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = await spread(now)
        client, server = ends(pair)
        server.say(lanes=1)
        now.s += 1
        client.sessions.doubt(0)
        await pair.settle()
        assert client.lanes_of() == server.lanes_of() == (0,)
        await pair.looks(now, 4, BUSY)
        assert client.lanes_of() == (0,)

    run(claim())


def test_a_peer_that_is_held_to_a_rate_has_one_lane_and_what_it_still_sends_is_opened_for_a_while(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = await spread(now)
        client, server = ends(pair)
        (slotted,) = server.peer_slots.by_slot.values()
        terms = Terms(limit=RateLimit(inbound=1000))
        slotted.peer = type(slotted.peer)(
            name=slotted.peer.name, public_key=slotted.peer.public_key, terms=terms
        )
        n_opened = len(server.receiving)
        await pair.looks(now, 2, BUSY)
        assert server.lanes_of() == (0,)
        assert len(server.receiving) == n_opened
        await pair.looks(now, round(4 * SILENT_S), BUSY)
        assert client.lanes_of() == (0,)
        assert {server.opened_in[index] for index in server.receiving} == {0}
        slotted.peer = type(slotted.peer)(
            name=slotted.peer.name, public_key=slotted.peer.public_key
        )
        server.say(lanes=N_LANES)
        await pair.looks(now, 12, BUSY)
        assert client.lanes_of() == server.lanes_of() == tuple(range(N_LANES))

    run(claim())


def test_a_peer_that_is_removed_leaves_no_key_in_any_lane(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = await spread(now)
        _, server = ends(pair)
        server.have()
        given = [[message for _, message in lane.take()] for lane in server.lanes.all]
        for messages_of_lane in given:
            assert any(isinstance(each, ForgetReceivingKeys) for each in messages_of_lane)
        assert server.lanes_of() == ()
        assert sum(lane.keys.n_used() for lane in server.lanes.all) >= 0

    run(claim())


@pytest.mark.parametrize("who", ["neither", "both"])
def test_where_not_one_side_dials_there_is_one_lane(now: SimpleNamespace, who: str) -> None:
    async def claim() -> None:
        pair = SeveralPair(2, 2)
        client, server = ends(pair)
        source = server if who == "neither" else client
        for side in (client, server):
            side.say(abilities=source.hello.abilities)
        await pair.begin()
        await pair.looks(now, 6, BUSY)
        assert client.lanes_of() == server.lanes_of() == (0,)
        assert set(server.opened_in.values()) == {0}

    run(claim())


def test_where_all_lanes_are_silent_the_session_is_asked_and_doubted(now: SimpleNamespace) -> None:
    """Though nothing was sent by its own lane."""

    async def claim() -> None:
        pair = await spread(now)
        client, server = ends(pair)
        server.is_deaf_in = set(range(N_LANES))
        n_before = client.results()["ok"]
        for _ in range(12):
            client.lanes.all[2].peers.note(0, "sent_data_ns")
            await pair.looks(now, 1, BUSY)
        assert client.results()["ok"] > n_before, "a handshake has tried the path"

    run(claim())


def test_a_way_that_is_not_proven_for_long_is_tried_by_another_port_now_and_then(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = SeveralPair(2, 2)
        client, server = ends(pair)
        await pair.begin()
        server.is_deaf_in = {1}
        await pair.looks(now, round(2 * OTHER_PORT_AFTER_S) + 4, BUSY)
        assert client.new_ports == [1]
        await pair.looks(now, round(2 * OTHER_PORT_EVERY_S), BUSY)
        assert client.new_ports == [1, 1]
        server.is_deaf_in = set()
        await pair.looks(now, round(4 * OTHER_PORT_EVERY_S), BUSY)
        assert client.new_ports == [1, 1]
        assert client.lanes_of() == (0, 1)

    run(claim())
