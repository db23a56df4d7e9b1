"""Sessions on UDP that last: rekeyed, roaming, let go, and begun anew with a worker."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
import structlog
from msgspec import structs

from fastun.lane.endpoint_messages import SetEndpoint
from fastun.lane.messages import (
    AddReceivingKey,
    AttachLink,
    AwaitReply,
    SendKeepalive,
    SetGateKeys,
    SetPacketMax,
    SetSendingKey,
    ToWorker,
)
from fastun.link import hello
from fastun.link.datagram import path_mtu as path
from fastun.native import RECEIVING_KEYS, Aead, UdpAddress
from fastun.session import cookies, messages
from tests.support.datagram_pair import HELLO, Pair, Side, names_resolved, rekey, run
from tests.support.inside_of import DEVICE, Routes
from tests.support.parties import SERVER, shake_hands

pytestmark = pytest.mark.usefixtures("now")


# -- rekeying, doubt, roaming -----------------------------------------------------------------


def test_a_rekey_keeps_the_link(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        links = [side.links.by_slot[0] for side in (pair.client, pair.server)]
        for side in (pair.client, pair.server):
            side.commands_of(AttachLink)
            agreed = side.commands_of(SetSendingKey)[-1].aead
        await rekey(pair, now)
        assert [side.links.by_slot[0] for side in (pair.client, pair.server)] == links
        assert pair.client.commands_of(AttachLink) == []
        for side in (pair.client, pair.server):
            assert side.counts.n_rekeys == 1
            given = side.commands_of(SetSendingKey)
            assert len({key.receiver_index for key in given}) == 1
            assert (given[0].aead, given[-1].aead) == (Aead.CHACHA20_POLY1305, agreed)
            assert side.results()["ok"] == 2

    run(claim())


def test_a_path_is_doubted_once_until_a_handshake_answers(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        now.s += 1
        for _ in range(3):
            pair.client.sessions.doubt(0)
        pair.client.sessions.doubt(5)
        await names_resolved()
        assert len(pair.client.sockets.sent) == 1
        await pair.settle()
        assert pair.client.sessions.last_handshake_s(0) == now.s
        now.s += 1
        pair.client.sessions.doubt(0)
        await names_resolved()
        assert len(pair.client.sockets.sent) == 1

    run(claim())


def test_where_a_peer_has_roamed_to_is_followed(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        roamed = UdpAddress(ip_address("198.51.100.9"), 1234)
        pair.server.endpoint = roamed
        pair.server.sessions.tick()
        assert pair.server.links.by_slot[0].remote == "198.51.100.9:1234"
        (index,) = pair.server.receiving
        pair.server.sessions.on_control(0, index, hello.encode(HELLO))
        assert [to for _, to in pair.server.sockets.sent] == [roamed]
        # A handshake goes there as well, and not first to where the peer was once.
        pair.client.endpoint = roamed
        pair.client.sessions.tick()
        now.s += 1
        pair.client.sessions.doubt(0)
        await names_resolved()
        assert [to for _, to in pair.client.sockets.sent] == [roamed, pair.server.address]

    run(claim())


def test_a_new_handshake_from_elsewhere_moves_the_link_and_says_so(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        link = pair.server.links.by_slot[0]
        pair.client.address = UdpAddress(ip_address("198.51.100.9"), 1234)
        now.s += 1
        with structlog.testing.capture_logs() as lines:
            pair.client.sessions.doubt(0)
            await pair.settle()
        assert pair.server.links.by_slot[0] is link
        assert link.remote == "198.51.100.9:1234"
        assert [line["remote"] for line in lines if line["event"] == "roamed"] == [link.remote]

    run(claim())


def test_a_peer_does_not_roam_into_the_tunnel() -> None:
    async def claim() -> None:
        routes = Routes()
        pair = Pair(server_inside=routes.inside())
        await pair.begin()
        before = pair.server.links.by_slot[0].remote
        pair.server.commands_of(SetEndpoint)
        pair.server.endpoint = UdpAddress(ip_address("10.99.0.2"), 1234)
        routes.to["10.99.0.2"] = DEVICE
        pair.server.sessions.tick()
        pair.server.work()
        assert pair.server.links.by_slot[0].remote == before
        assert pair.server.commands_of(SetEndpoint) == [SetEndpoint(0, pair.client.address.pack())]

    run(claim())


def test_a_handshake_from_inside_the_tunnel_is_refused_and_counted() -> None:
    async def claim() -> None:
        routes = Routes()
        pair = Pair(server_inside=routes.inside())
        routes.to[str(pair.client.address.host)] = DEVICE
        await pair.begin()
        assert pair.server.results() == {"inside_tunnel": 1}
        assert pair.server.commands_of(SetEndpoint) == []
        assert 0 not in pair.server.links.by_slot

    run(claim())


def test_a_known_peer_in_a_routed_network_is_made_way_for_unless_it_came_through_the_tunnel(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        routes, asked = Routes(), []
        pair = Pair(server_inside=routes.inside())
        pair.server.inside.subscribe(lambda: asked.append(True))
        host = pair.client.address.host
        routes.to[str(host)] = DEVICE
        outside = pair.client.address
        pair.client.address = structs.replace(outside, local_zone=DEVICE)
        await pair.begin()
        assert asked == []
        pair.client.address = structs.replace(outside, local_zone=DEVICE + 1)
        for side in (pair.client, pair.server):
            side.sockets.sent.clear()
        now.s += 6
        pair.client.sessions.tick()
        await pair.settle()
        assert pair.server.inside.kept_out == {host}
        assert asked == [True]
        assert pair.server.results() == {"inside_tunnel": 2}
        assert 0 not in pair.server.links.by_slot
        routes.to.clear()  # they have made way
        now.s += 6
        pair.client.sessions.tick()
        await pair.settle()
        assert pair.server.links.by_slot[0].transport == "udp"

    run(claim())


def test_a_path_is_measured_when_a_datagram_does_not_fit_and_now_and_then(
    now: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        client = pair.client
        client.commands_of(SetPacketMax)
        monkeypatch.setattr(path, "local_mtu", lambda *_: 1300)
        client.sessions.on_path_too_narrow(5)
        client.sessions.on_path_too_narrow(0)
        client.work()
        assert client.commands_of(SetPacketMax) == [SetPacketMax(0, 1240)]
        monkeypatch.setattr(path, "local_mtu", lambda *_: 1400)
        now.s += 10
        client.sessions.tick()
        client.work()
        assert client.commands_of(SetPacketMax) == [SetPacketMax(0, 1340)]

    run(claim())


def test_links_follow_the_devices_mtu(
    now: SimpleNamespace,  # noqa: ARG001 (stands still)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def claim() -> None:
        monkeypatch.setattr(path, "local_mtu", lambda *_: 9000)
        pair = Pair()
        pair.client.inner_mtu.change(1300)
        await pair.begin()
        client = pair.client
        assert client.links.by_slot[0].link_format.mtu == 1300
        assert client.commands_of(SetPacketMax) == [SetPacketMax(0, 1300)]
        client.inner_mtu.change(8000)
        client.work()
        assert client.commands_of(SetPacketMax) == [SetPacketMax(0, 8000)]
        client.links.end(0, "test")
        client.inner_mtu.change(1300)
        client.work()
        assert client.commands_of(SetPacketMax) == []

    run(claim())


def test_what_came_before_the_link_is_not_its_sessions(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        now.s += 1
        pair.client.fields["received_data_ns"] = int(now.s * 1e9)
        await pair.settle()
        now.s += 10.1
        pair.client.sessions.tick()
        pair.client.work()
        assert pair.client.commands_of(SendKeepalive) == []

    run(claim())


# -- workers ----------------------------------------------------------------------------------


def test_a_fresh_link_reader_gets_the_gates_key_and_the_peers_addresses() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        for role in ("tun-reader", "link-writer", "tun-writer"):
            pair.server.sessions.tell_worker(pair.server.lane.worker(role))
        assert pair.server.lane.take() == []
        pair.server.sessions.tell_worker(pair.server.lane.worker("link-reader"))
        assert pair.server.lane.take() == [
            (
                "link-reader",
                SetGateKeys(cookies.mac1_key(SERVER.public), cookies.cookie_key(SERVER.public)),
            ),
            ("link-reader", SetEndpoint(0, pair.client.address.pack())),
        ]

    run(claim())


def told(side: Side, role: str) -> list[ToWorker]:
    """What a fresh worker hears, in this order."""
    side.lane.take()
    side.sessions.tell_worker(side.lane.worker(role))
    side.sessions.tell_keys(side.lane.worker(role))
    taken = side.lane.take()
    assert {each for each, _ in taken} <= {role}
    return [message for _, message in taken]


def test_a_fresh_tun_reader_goes_on_with_the_same_keys_and_counters() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        given = pair.server.commands_of(SetSendingKey)[-1]
        limits = pair.server.commands_of(SetPacketMax)[-1:]
        assert told(pair.server, "tun-reader") == [*limits, given]
        assert pair.server.sockets.sent == [], "nothing begins anew"
        assert told(pair.server, "link-writer") == told(pair.server, "tun-writer") == []

    run(claim())


def test_a_fresh_link_reader_gets_all_keys_that_its_predecessor_opened_with(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        await rekey(pair, now)
        given = pair.server.commands_of(AddReceivingKey)
        assert len(given) == 2
        keys = [each for each in told(pair.server, "link-reader") if type(each) is AddReceivingKey]
        assert keys == [structs.replace(each, is_known=True) for each in given]
        now.s += 60.5  # the first session is too old by now, the other is not
        pair.server.sessions.tick()
        keys = [each for each in told(pair.server, "link-reader") if type(each) is AddReceivingKey]
        assert [each.index for each in keys] == [given[1].index]

    run(claim())


def test_a_handshake_goes_on_that_waited_for_a_link_reader_that_was_killed() -> None:
    async def claim() -> None:
        pair = Pair()
        initiation = await pair.client.begin()
        pair.server.take_in(initiation, pair.client.address)
        await asyncio.sleep(0)
        pair.server.lane.take()  # dies with this
        (waiting,) = [
            each for each in told(pair.server, "link-reader") if type(each) is AddReceivingKey
        ]
        assert not waiting.is_known, "it may be new"
        assert pair.server.sockets.sent == []
        pair.server.sessions.on_key_added(0, waiting.index)
        assert len(pair.server.sockets.sent) == 1, "the response"
        (again,) = [
            each for each in told(pair.server, "link-reader") if type(each) is AddReceivingKey
        ]
        assert again.is_known

    run(claim())


def test_handshakes_that_are_never_finished_do_not_cost_a_successor_the_keys_in_use() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        udp_peer = pair.server.sessions._peers.by_slot[0]  # noqa: SLF001
        assert udp_peer.current is not None
        for _ in range(3 * RECEIVING_KEYS):
            udp_peer.note_opened(shake_hands().server)
        assert len(udp_peer.opened) == RECEIVING_KEYS
        assert udp_peer.current in [each.keys for each in udp_peer.opened]

    run(claim())


def test_a_cookie_may_come_to_a_fresh_link_reader() -> None:
    async def claim() -> None:
        pair = Pair()
        initiation = await pair.client.begin()
        sender = messages.Initiation.unpack(initiation).sender
        assert AwaitReply(0, sender) in told(pair.client, "link-reader")

    run(claim())
