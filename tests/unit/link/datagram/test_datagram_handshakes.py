"""Handshakes on UDP: when the keys are used that they give, and who gets no answer."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from fastun.endpoint import Endpoint
from fastun.lane.endpoint_messages import SetEndpoint
from fastun.lane.messages import AddReceivingKey, AttachLink, AwaitReply, SetSendingKey
from fastun.native import Aead, UdpAddress, has_aes_instructions
from fastun.peers.peer import Peer
from fastun.session import cookies, messages, primitives
from fastun.session.refusal import Refusal
from tests.support.datagram_pair import (
    COOKIE,
    HELLO,
    SERVER_AS_PEER,
    START_S,
    Pair,
    Side,
    names_resolved,
    run,
)
from tests.support.parties import CLIENT, PSK, SERVER, STRANGER, cookie_reply

pytestmark = pytest.mark.usefixtures("now")


# -- beginning --------------------------------------------------------------------------------


@pytest.mark.parametrize("preshared_key", [None, PSK])
def test_a_handshake_makes_udp_the_link_of_both(preshared_key: bytes | None) -> None:
    async def claim() -> None:
        pair = Pair(preshared_key)
        await pair.begin()
        for side in (pair.client, pair.server):
            assert side.links.by_slot[0].transport == "udp"
            assert side.links.by_slot[0].peer_software == HELLO.software
            assert side.results() == {"ok": 1}
            assert side.counts.n_rekeys == 0
            assert side.sessions.last_handshake_s(0) == START_S
            (attached, *others) = side.commands_of(AttachLink)
            assert attached.link_format.is_datagram
            assert others == [attached]
        assert pair.server.links.by_slot[0].remote == "192.0.2.1:51820"
        for side, other in ((pair.client, pair.server), (pair.server, pair.client)):
            assert {*side.commands_of(SetEndpoint)} == {SetEndpoint(0, other.address.pack())}

    run(claim())


def test_the_agreed_cipher_goes_on_with_the_counters_that_the_gateway_draws_from() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        agreed = Aead.AES_256_GCM if has_aes_instructions() else Aead.CHACHA20_POLY1305
        for side in (pair.client, pair.server):
            given = side.commands_of(SetSendingKey)
            assert given[0].aead == Aead.CHACHA20_POLY1305
            assert given[-1].aead == agreed
            assert len({key.source for key in given}) == 1
            udp_peer = side.sessions._peers.by_slot[0]  # noqa: SLF001
            assert udp_peer.hello.counter is not None
            assert udp_peer.hello.counter.source == given[0].source
            assert udp_peer.hello.counter.next() == 1, "the hello took the first"
            assert len({key.receiver_index for key in given}) == 1

    run(claim())


def test_the_link_reader_knows_which_initiation_a_cookie_may_be_for() -> None:
    async def claim() -> None:
        pair = Pair()
        initiation = await pair.client.begin()
        sender = messages.Initiation.unpack(initiation).sender
        given = [(role, each) for role, each in pair.client.lane.take() if type(each) is AwaitReply]
        assert given == [("link-reader", AwaitReply(0, sender))]

    run(claim())


def test_a_response_waits_until_the_link_reader_opens() -> None:
    async def claim() -> None:
        pair = Pair()
        initiation = await pair.client.begin()
        pair.server.take_in(initiation, pair.client.address)
        await asyncio.sleep(0)
        assert pair.server.sockets.sent == []
        pair.server.sessions.on_key_added(0, 12345)
        assert pair.server.sockets.sent == []
        pair.server.work()
        ((response, to),) = pair.server.sockets.sent
        assert (len(response), to) == (92, pair.client.address)
        pair.server.sessions.on_key_added(0, messages.Response.unpack(response).sender)
        assert len(pair.server.sockets.sent) == 1

    run(claim())


def test_a_response_that_is_asked_for_again_goes_out_every_second_time_without_our_source(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        asked_at = replace(pair.client.address, local=ip_address("192.0.2.2"), local_zone=3)
        await pair.client.begin()
        sources = []
        for _ in range(4):
            now.s += 5.4
            pair.client.sessions.tick()
            await names_resolved()
            await pair.server.answer(pair.client.sent(), asked_at)
            # With the second the responder begins to ask as well.
            sources.append([to.local for sent, to in pair.server.sockets.sent if len(sent) == 92])
            pair.server.sockets.sent.clear()
        assert sources == 2 * [[asked_at.local], [None]]
        assert pair.server.commands_of(SetEndpoint)[-1] == SetEndpoint(0, asked_at.pack())

    run(claim())


def test_a_responder_seals_only_when_the_peer_has_shown_the_keys() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.server.answer(await pair.client.begin(), pair.client.address)
        assert pair.server.commands_of(SetSendingKey) == []
        (index,) = pair.server.receiving
        pair.server.sessions.on_key_confirmed(0, index ^ 1)
        pair.server.work()
        assert pair.server.commands_of(SetSendingKey) == []
        pair.server.sessions.on_key_confirmed(0, index)
        pair.server.sessions.on_key_confirmed(0, index)
        pair.server.work()
        assert len(pair.server.commands_of(SetSendingKey)) == 1

    run(claim())


def test_an_initiator_seals_only_under_keys_that_its_link_reader_has() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.server.answer(await pair.client.begin(), pair.client.address)
        response = pair.server.sockets.sent.pop()[0]
        for _ in range(2):  # a response sent again answers nothing
            pair.client.take_in(response, pair.server.address)
            await asyncio.sleep(0)
        (key,) = [m for _, m in pair.client.lane.take() if isinstance(m, AddReceivingKey)]
        assert pair.client.results() == {str(Refusal.UNKNOWN_INDEX): 1}
        pair.client.sessions.on_key_added(0, key.index ^ 1)
        assert pair.client.lane.take() == []
        pair.client.sessions.on_key_added(0, key.index)
        pair.client.sessions.on_key_added(0, key.index)
        pair.client.work()
        assert len(pair.client.commands_of(SetSendingKey)) == 1

    run(claim())


def test_of_several_peers_a_response_is_for_the_one_that_it_names() -> None:
    async def claim() -> None:
        pair = Pair()
        elsewhere = Endpoint("udp", "192.0.2.9", 51820)
        client = pair.client = Side(
            "connect",
            CLIENT,
            "192.0.2.1",
            Peer(name="other", public_key=STRANGER.public, endpoints=(elsewhere,)),
            SERVER_AS_PEER,
        )
        client.sessions.begin(0)
        await names_resolved()
        client.sockets.sent.clear()
        client.sessions.begin(1)
        await pair.settle()
        assert sorted(client.links.by_slot) == [1]
        assert client.results() == {"ok": 1}

    run(claim())


def test_a_peer_that_is_nowhere_is_not_begun_with() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.server.sessions.begin_all()
        pair.server.sessions.begin(77)
        await names_resolved()
        assert pair.server.sockets.sent == []

    run(claim())


def test_a_handshake_message_that_cannot_be_sent_is_as_good_as_lost(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.server.sockets.failure = OSError(101, "no route")
        await pair.begin()
        assert pair.client.links.by_slot == {}
        pair.server.sockets.failure = None
        now.s += 6
        pair.client.sessions.tick()
        await names_resolved()
        await pair.server.answer(pair.client.sockets.sent.pop()[0], pair.client.address)
        pair.client.sockets.failure = OSError(101, "no route")  # a hello is lost, too
        await pair.settle()
        assert pair.client.links.by_slot[0].transport == "udp"
        assert pair.client.sockets.sent == []

    run(claim())


# -- what is refused --------------------------------------------------------------------------


def test_a_stranger_gets_no_answer() -> None:
    async def claim() -> None:
        pair = Pair()
        stranger = Side(
            "connect",
            STRANGER,
            "192.0.2.3",
            SERVER_AS_PEER,
        )
        initiation = await stranger.begin()
        pair.server.take_in(initiation, stranger.address)
        await asyncio.sleep(0)
        assert pair.server.lane.take() == []
        assert pair.server.sockets.sent == []
        assert pair.server.results() == {str(Refusal.UNKNOWN_PEER): 1}

    run(claim())


def test_a_response_or_cookie_for_no_handshake_of_ours_is_counted() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        body = bytes([2, 0, 0, 0, 9, 9, 9, 9, 8, 8, 8, 8]).ljust(60)
        pair.client.take_in(cookies.append_macs(body, CLIENT.public), pair.server.address)
        pair.client.take_in(bytes([3, 0, 0, 0, 8, 8, 8, 8]).ljust(64), pair.server.address)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pair.client.results() == {"ok": 1, str(Refusal.UNKNOWN_INDEX): 2}

    run(claim())


def test_a_cookie_is_for_its_asker_by_an_initiation_or_a_response(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        initiation = await pair.client.begin()
        stray = bytes([3, 0, 0, 0, 8, 8, 8, 8]).ljust(64)
        pair.client.take_in(stray, pair.server.address)
        await pair.server.answer(initiation, pair.client.address)
        ((response, _),) = pair.server.sockets.sent
        pair.server.take_in(cookie_reply(response, CLIENT.public, COOKIE), pair.client.address)
        await asyncio.sleep(0)
        assert pair.client.results() == {str(Refusal.UNKNOWN_INDEX): 1}
        assert pair.server.results() == {}
        # The next response shows it.
        pair.client.sockets.sent.clear()
        now.s += 6
        pair.client.sessions.tick()
        await names_resolved()
        ((again, _),) = pair.client.sockets.sent
        pair.server.sockets.sent.clear()
        await pair.server.answer(again, pair.client.address)
        ((response, _),) = pair.server.sockets.sent
        assert response[-16:] == primitives.mac(COOKIE, response[:-16])

    run(claim())


def test_a_cookie_is_shown_by_the_next_initiation(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        initiation = await pair.client.begin()
        pair.client.take_in(cookie_reply(initiation, SERVER.public, COOKIE), pair.server.address)
        await asyncio.sleep(0)
        pair.client.sockets.sent.clear()
        now.s += 6
        pair.client.sessions.tick()
        await names_resolved()
        ((again, _),) = pair.client.sockets.sent
        assert again[-16:] == primitives.mac(COOKIE, again[:-16])

    run(claim())


def test_a_cookie_is_shown_by_the_next_response(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        for is_asked in (True, False):
            await names_resolved()
            await pair.server.answer(pair.client.sockets.sent.pop()[0], pair.client.address)
            response = pair.server.sent()
            if is_asked:
                reply = cookie_reply(response, CLIENT.public, COOKIE)
                pair.server.take_in(reply, pair.client.address)
                now.s += 6
                pair.client.sessions.tick()
        assert response[-16:] == primitives.mac(COOKIE, response[:-16])

    run(claim())


def test_the_link_reader_knows_where_a_peer_is_before_anything_is_sealed_for_it() -> None:
    """Else what has waited for the session is sent nowhere."""

    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        given = [message for _, message in pair.client.given]
        told = next(i for i, each in enumerate(given) if isinstance(each, SetEndpoint))
        added = next(i for i, each in enumerate(given) if isinstance(each, AddReceivingKey))
        assert told < added
        assert UdpAddress.unpack(given[told].endpoint) == pair.server.address  # type: ignore[attr-defined]

    run(claim())
