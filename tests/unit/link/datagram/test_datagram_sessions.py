"""Sessions on UDP that last: rekeyed, roaming, let go, and begun anew with a worker."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastun.endpoint import Endpoint
from fastun.lane.messages import (
    AttachLink,
    DetachLink,
    ForgetReceivingKeys,
    SendKeepalive,
    SetEndpoint,
    SetGateKeys,
    SetPathMtu,
    SetSendingKey,
)
from fastun.link import hello
from fastun.link.datagram import path_mtu as path
from fastun.native import Aead, UdpAddress
from fastun.peers.peer import Peer
from fastun.session import cookies
from fastun.session.refusal import Refusal
from tests.support.datagram_pair import COOKIE, HELLO, Pair, Side, names_resolved, rekey, run
from tests.support.inside_of import DEVICE, Routes
from tests.support.parties import CLIENT, SERVER, STRANGER, cookie_reply

pytestmark = pytest.mark.usefixtures("now")


# -- rekeying, doubt, roaming -----------------------------------------------------------------


def test_a_rekey_keeps_the_link(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        links = [side.links.by_slot[0] for side in (pair.client, pair.server)]
        for side in (pair.client, pair.server):
            side.told_of(AttachLink)
            agreed = side.told_of(SetSendingKey)[-1].aead
        await rekey(pair, now)
        assert [side.links.by_slot[0] for side in (pair.client, pair.server)] == links
        assert pair.client.told_of(AttachLink) == []
        for side in (pair.client, pair.server):
            assert side.counts.n_rekeys == 1
            told = side.told_of(SetSendingKey)
            assert len({key.receiver_index for key in told}) == 1
            assert (told[0].aead, told[-1].aead) == (Aead.CHACHA20_POLY1305, agreed)
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


def test_where_a_peer_has_roamed_to_is_followed() -> None:
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
        pair.client.sessions.doubt(0)
        await names_resolved()
        assert [to for _, to in pair.client.sockets.sent] == [roamed]

    run(claim())


def test_a_peer_does_not_roam_into_the_tunnel() -> None:
    async def claim() -> None:
        routes = Routes()
        pair = Pair(server_inside=routes.inside())
        await pair.begin()
        before = pair.server.links.by_slot[0].remote
        pair.server.told_of(SetEndpoint)
        pair.server.endpoint = UdpAddress(ip_address("10.99.0.2"), 1234)
        routes.to["10.99.0.2"] = DEVICE
        pair.server.sessions.tick()
        pair.server.work()
        assert pair.server.links.by_slot[0].remote == before
        assert pair.server.told_of(SetEndpoint) == [SetEndpoint(0, pair.client.address.pack())]

    run(claim())


def test_a_handshake_from_inside_the_tunnel_is_refused_and_counted() -> None:
    async def claim() -> None:
        routes = Routes()
        pair = Pair(server_inside=routes.inside())
        routes.to[str(pair.client.address.host)] = DEVICE
        await pair.begin()
        assert pair.server.results() == {"inside_tunnel": 1}
        assert pair.server.told_of(SetEndpoint) == []
        assert 0 not in pair.server.links.by_slot

    run(claim())


def test_a_path_is_measured_when_a_datagram_does_not_fit_and_now_and_then(
    now: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        client = pair.client
        client.told_of(SetPathMtu)
        monkeypatch.setattr(path, "local_mtu", lambda *_: 1300)
        client.sessions.on_path_too_narrow(5)
        client.sessions.on_path_too_narrow(0)
        client.work()
        assert client.told_of(SetPathMtu) == [SetPathMtu(0, 1240)]
        monkeypatch.setattr(path, "local_mtu", lambda *_: 1400)
        now.s += 10
        client.sessions.tick()
        client.work()
        assert client.told_of(SetPathMtu) == [SetPathMtu(0, 1340)]

    run(claim())


def test_links_follow_the_devices_mtu(
    now: SimpleNamespace,  # noqa: ARG001 (stands still)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def claim() -> None:
        monkeypatch.setattr(path, "local_mtu", lambda *_: 9000)
        pair = Pair()
        pair.client.sessions.follow_mtu(1300)
        await pair.begin()
        client = pair.client
        assert client.links.by_slot[0].link_format.mtu == 1300
        assert client.told_of(SetPathMtu) == [SetPathMtu(0, 1300)]
        client.sessions.follow_mtu(8000)
        client.work()
        assert client.told_of(SetPathMtu) == [SetPathMtu(0, 8000)]
        client.links.end(0, "test")
        client.sessions.follow_mtu(1300)
        client.work()
        assert client.told_of(SetPathMtu) == []

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
        assert pair.client.told_of(SendKeepalive) == []

    run(claim())


# -- what is let go ---------------------------------------------------------------------------


def test_a_session_that_nothing_is_heard_of_ends_its_link_and_then_its_keys(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        (index,) = pair.server.receiving
        now.s += 181
        pair.server.sessions.tick()
        assert pair.server.links.by_slot == {}
        pair.server.work()
        pair.server.told_of(ForgetReceivingKeys)
        now.s += 180 * 2
        pair.server.sessions.tick()
        pair.server.work()
        assert pair.server.told_of(ForgetReceivingKeys) == [ForgetReceivingKeys(0)]
        pair.server.sockets.sent.clear()
        pair.server.sessions.on_control(0, index, hello.encode(HELLO))
        assert pair.server.sockets.sent == []

    run(claim())


def test_a_stream_that_has_taken_over_does_not_end_with_the_session(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        stream = SimpleNamespace(id=99, transport="tcp")
        pair.server.links.by_slot[0] = cast("Any", stream)
        now.s += 181
        pair.server.sessions.tick()
        assert pair.server.links.by_slot == {0: stream}

    run(claim())


def test_a_handshake_takes_over_from_a_stream(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        stream = SimpleNamespace(id=99, transport="tcp", connection=None)
        pair.client.links.by_slot[0] = cast("Any", stream)
        now.s += 1
        pair.client.sessions.doubt(0)
        await pair.settle()
        assert pair.client.links.by_slot[0].transport == "udp"

    run(claim())


def test_a_client_goes_on_trying_and_a_server_gives_up(now: SimpleNamespace) -> None:
    async def claim() -> None:
        for role, goes_on in (("connect", True), ("serve", False)):
            endpoint = Endpoint("udp", "192.0.2.2", 51820)
            side = Side(
                role,
                CLIENT,
                "192.0.2.1",
                Peer(name="server", public_key=SERVER.public, endpoints=(endpoint,)),
            )
            side.sessions.begin_all()
            for _ in range(60):
                now.s += 2
                side.sessions.tick()
            await names_resolved()
            side.sockets.sent.clear()
            for _ in range(10):
                now.s += 2
                side.sessions.tick()
            await names_resolved()
            assert bool(side.sockets.sent) == goes_on

    run(claim())


def test_after_all_an_answer_is_too_late(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        endpoint = Endpoint("udp", "192.0.2.2", 51820)
        side = pair.client = Side(
            "serve",
            CLIENT,
            "192.0.2.1",
            Peer(name="server", public_key=SERVER.public, endpoints=(endpoint,)),
        )
        side.sessions.begin(0)
        for _ in range(60):
            now.s += 2
            side.sessions.tick()
        await names_resolved()
        initiation = side.sockets.sent[-1][0]
        side.sockets.sent.clear()
        now.s += 3 * 180
        side.sessions.tick()
        pair.server.take_in(initiation, side.address)
        await pair.settle()
        assert side.results() == {str(Refusal.UNKNOWN_INDEX): 1}
        assert side.links.by_slot == {}

    run(claim())


def test_a_removed_peers_keys_are_forgotten() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        pair.server.sessions.forget(0)
        pair.server.sessions.forget(0)
        pair.server.work()
        assert pair.server.told_of(ForgetReceivingKeys) == [ForgetReceivingKeys(0)]
        assert pair.server.sessions.last_handshake_s(0) == 0.0

    run(claim())


BEE = Peer(name="bee", public_key=STRANGER.public)


async def unanswered(pair: Pair, now: SimpleNamespace) -> tuple[bytes, bytes]:
    """Let the server ask its client anew; return the initiation and the response, kept back."""
    await pair.begin()
    now.s += 1
    pair.server.sessions.doubt(0)
    await names_resolved()
    ((initiation, _),) = pair.server.sockets.sent
    pair.server.sockets.sent.clear()
    pair.client.take_in(initiation, pair.server.address)
    await asyncio.sleep(0)
    pair.client.work()
    ((response, _),) = pair.client.sockets.sent
    pair.client.sockets.sent.clear()
    return initiation, response


ELSEWHERE = UdpAddress(ip_address("203.0.113.66"), 6666)


@pytest.mark.parametrize("is_heard_of", [True, False])
@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_removed_peer_that_answers_at_last_gets_nobodys_place(
    now: SimpleNamespace, is_replaced: bool, is_heard_of: bool
) -> None:
    async def claim() -> None:
        pair = Pair()
        server = pair.server
        _, response = await unanswered(pair, now)
        if not is_heard_of:  # whatever goes wrong: who has no slot gets in nowhere
            server.is_told = False
        server.have(*((BEE,) if is_replaced else ()))
        server.lane.take()
        server.take_in(response, ELSEWHERE)
        await asyncio.sleep(0)
        assert server.lane.take() == []
        assert server.results() == {"ok": 1, str(Refusal.UNKNOWN_INDEX): 1}

    run(claim())


def test_a_removed_peers_cookie_is_for_nobody(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        initiation, _ = await unanswered(pair, now)
        reply = cookie_reply(initiation, CLIENT.public, COOKIE)
        pair.server.have(BEE)
        pair.server.take_in(reply, ELSEWHERE)
        await asyncio.sleep(0)
        assert pair.server.results() == {"ok": 1, str(Refusal.UNKNOWN_INDEX): 1}

    run(claim())


@pytest.mark.parametrize("is_member", [True, False])
def test_a_peer_that_is_removed_while_its_name_is_resolved_is_not_asked(is_member: bool) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        await asyncio.sleep(0)
        if is_member:  # it has changed, say
            pair.client.sessions.forget(0)
        else:
            pair.client.have()
        await names_resolved()
        assert pair.client.sockets.sent == []

    run(claim())


@pytest.mark.parametrize(("pause_s", "is_taken"), [(89, True), (90, False)])
def test_an_initiation_is_not_answered_when_there_would_be_no_other(
    now: SimpleNamespace, pause_s: float, is_taken: bool
) -> None:
    async def claim() -> None:
        pair = Pair()
        _, response = await unanswered(pair, now)
        now.s += pause_s
        pair.server.take_in(response, pair.client.address)
        await pair.settle()
        assert pair.server.results()["ok"] == 1 + is_taken

    run(claim())


# -- workers ----------------------------------------------------------------------------------


def test_a_fresh_link_reader_is_told_the_gates_key_and_where_the_peers_are() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        for role in ("tun-reader", "link-writer", "tun-writer"):
            pair.server.sessions.tell_worker(role)
        assert pair.server.lane.take() == []
        pair.server.sessions.tell_worker("link-reader")
        assert pair.server.lane.take() == [
            (
                "link-reader",
                SetGateKeys(cookies.mac1_key(SERVER.public), cookies.cookie_key(SERVER.public)),
            ),
            ("link-reader", SetEndpoint(0, pair.client.address.pack())),
        ]

    run(claim())


@pytest.mark.parametrize(
    ("role", "begins_anew"),
    [("tun-reader", True), ("link-reader", True), ("link-writer", False), ("tun-writer", False)],
)
def test_sessions_begin_anew_at_once_when_a_worker_dies_with_their_keys(
    role: str, begins_anew: bool
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        if begins_anew:
            pair.server.links.end_all(f"{role} died")
        (index,) = pair.server.receiving
        pair.server.sessions.on_worker_death(role)
        if begins_anew:  # the old keys are gone
            pair.server.sessions.on_control(0, index, hello.encode(HELLO))
            assert pair.server.sockets.sent == []
        await names_resolved()
        assert len(pair.server.sockets.sent) == begins_anew
        assert DetachLink(0) in [message for _, message in pair.server.lane.take()] or not (
            begins_anew
        )
        await pair.settle()
        assert pair.server.results()["ok"] == 1 + begins_anew
        assert pair.server.links.by_slot[0].transport == "udp"

    run(claim())


def test_who_was_being_asked_is_asked_anew_when_workers_die_in_a_row(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        for n in range(4):
            pair.client.sessions.on_worker_death(("tun-reader", "link-reader")[n % 2])
            await names_resolved()
        initiations = [message for message, _ in pair.client.sockets.sent]
        assert len(set(initiations)) == 4
        del pair.client.sockets.sent[:-1]  # the others were for sessions that are given up
        now.s += 1  # it is not so soon after the first
        await pair.settle()
        assert pair.client.results()["ok"] == 2

    run(claim())


def test_a_peer_that_was_not_connected_is_not_asked_when_a_worker_dies() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        await names_resolved()
        pair.server.take_in(pair.client.sockets.sent.pop()[0], pair.client.address)
        await asyncio.sleep(0)
        pair.server.sessions.on_worker_death("link-reader")
        await names_resolved()
        assert pair.server.sockets.sent == []

    run(claim())
