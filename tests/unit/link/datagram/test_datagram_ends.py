"""How sessions on UDP end: silence, streams that take over, removed peers, answers too late."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastun.lane.messages import (
    ForgetReceivingKeys,
)
from fastun.link import hello
from fastun.native import UdpAddress
from fastun.peers.peer import Peer
from fastun.session.refusal import Refusal
from tests.support.datagram_pair import (
    COOKIE,
    HELLO,
    SERVER_AS_PEER,
    Pair,
    Side,
    names_resolved,
    run,
)
from tests.support.parties import CLIENT, STRANGER, cookie_reply

pytestmark = pytest.mark.usefixtures("now")


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
        pair.server.commands_of(ForgetReceivingKeys)
        now.s += 180 * 2
        pair.server.sessions.tick()
        pair.server.work()
        assert pair.server.commands_of(ForgetReceivingKeys) == [ForgetReceivingKeys(0)]
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
        stream = SimpleNamespace(id=99, transport="tcp", connection=None, lane=pair.client.lane)
        pair.client.links.by_slot[0] = cast("Any", stream)
        now.s += 1
        pair.client.sessions.doubt(0)
        await pair.settle()
        assert pair.client.links.by_slot[0].transport == "udp"

    run(claim())


def test_a_client_goes_on_trying_and_a_server_gives_up(now: SimpleNamespace) -> None:
    async def claim() -> None:
        for role, goes_on in (("connect", True), ("serve", False)):
            side = Side(
                role,
                CLIENT,
                "192.0.2.1",
                SERVER_AS_PEER,
            )
            side.sessions.begin_all()
            await names_resolved()
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
        side = pair.client = Side(
            "serve",
            CLIENT,
            "192.0.2.1",
            SERVER_AS_PEER,
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
        assert pair.server.commands_of(ForgetReceivingKeys) == [ForgetReceivingKeys(0)]
        assert pair.server.sessions.last_handshake_s(0) == 0.0

    run(claim())


BEE = Peer(name="bee", public_key=STRANGER.public)


async def unanswered(pair: Pair, now: SimpleNamespace) -> tuple[bytes, bytes]:
    """Let the server ask its client anew; return the initiation and the response, kept back."""
    await pair.begin()
    now.s += 1
    pair.server.sessions.doubt(0)
    await names_resolved()
    initiation = pair.server.sent()
    await pair.client.answer(initiation, pair.server.address)
    response = pair.client.sent()
    return initiation, response


ELSEWHERE = UdpAddress(ip_address("203.0.113.66"), 6666)


@pytest.mark.parametrize("is_heard_of", [True, False])
@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_removed_peer_that_answers_late_gets_no_place(
    now: SimpleNamespace, is_replaced: bool, is_heard_of: bool
) -> None:
    async def claim() -> None:
        pair = Pair()
        server = pair.server
        _, response = await unanswered(pair, now)
        if not is_heard_of:  # whatever goes wrong: who has no slot gets in nowhere
            server.is_notified = False
        server.have(*((BEE,) if is_replaced else ()))
        server.lane.take()
        server.take_in(response, ELSEWHERE)
        await asyncio.sleep(0)
        assert server.lane.take() == []
        assert server.results() == {"ok": 1, str(Refusal.UNKNOWN_INDEX): 1}

    run(claim())


def test_a_removed_peers_cookie_is_ignored(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        initiation, _ = await unanswered(pair, now)
        reply = cookie_reply(initiation, CLIENT.public, COOKIE)
        pair.server.have(BEE)
        pair.server.take_in(reply, ELSEWHERE)
        await asyncio.sleep(0)
        assert pair.server.results() == {"ok": 1, str(Refusal.UNKNOWN_INDEX): 1}

    run(claim())


@pytest.mark.parametrize("is_present", [True, False])
def test_a_peer_that_is_removed_while_its_name_is_resolved_is_not_asked(is_present: bool) -> None:
    async def claim() -> None:
        pair = Pair(host="vpn")
        pair.client.dns.answers["vpn"] = ["192.0.2.2"]
        pair.client.dns.meanwhile = lambda: time.sleep(0.05)
        pair.client.sessions.begin(0)
        await asyncio.sleep(0)
        if is_present:  # it has changed, say
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
