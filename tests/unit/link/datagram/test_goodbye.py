"""A goodbye ends the session in which it is said, at once, and no other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from fastun.link import hello
from fastun.link.datagram import goodbye
from fastun.link.datagram.peer import HelloExchange
from fastun.session import messages
from tests.support.datagram_pair import HELLO, Pair, rekey, run

if TYPE_CHECKING:
    from types import SimpleNamespace

    from tests.support.datagram_pair import Side

pytestmark = pytest.mark.usefixtures("now")


async def linked(pair: Pair) -> None:
    await pair.begin()
    for side in (pair.client, pair.server):
        assert side.links.by_slot
        side.sockets.sent.clear()


def heard(side: Side, message: bytes = goodbye.MESSAGE) -> None:
    """Take a control message as from the link-reader, in the session that is in use."""
    side.sessions.on_control(0, list(side.receiving)[-1], message)


def test_the_server_stops_and_the_client_begins_anew_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, now: SimpleNamespace
) -> None:
    monkeypatch.setattr(goodbye, "AGAIN_AFTER_S", (0.1, 0.1))

    async def claim() -> None:
        pair = Pair()
        await linked(pair)
        link = pair.client.links.by_slot[0]
        now.s += 10
        pair.server.sessions.say_goodbye()
        pair.client.take_in(pair.server.sent(), pair.server.address)
        assert pair.client.links.by_slot == {}
        assert link.end_reason == "the server has said goodbye: it is stopping, or has removed us"
        await asyncio.sleep(0.02)
        assert pair.client.sockets.sent == []
        await asyncio.sleep(0.15)
        assert messages.type_of(pair.client.sent()) is messages.MessageType.INITIATION

    run(claim())


def test_a_client_that_is_removed_hears_of_it_at_once() -> None:
    async def claim() -> None:
        pair = Pair()
        await linked(pair)
        pair.server.sessions.forget(0)
        pair.client.take_in(pair.server.sent(), pair.server.address)
        assert pair.client.links.by_slot == {}
        pair.server.sessions.forget(0)
        assert pair.server.sockets.sent == [], "once, and not without a session"

    run(claim())


def test_the_client_stops_and_the_server_waits(
    monkeypatch: pytest.MonkeyPatch, now: SimpleNamespace
) -> None:
    monkeypatch.setattr(goodbye, "AGAIN_AFTER_S", (0.0, 0.0))

    async def claim() -> None:
        pair = Pair()
        await linked(pair)
        now.s += 10
        pair.client.sessions.say_goodbye()
        pair.server.take_in(pair.client.sent(), pair.client.address)
        assert pair.server.links.by_slot == {}
        await asyncio.sleep(0.05)
        pair.server.sessions.tick()
        assert pair.server.sockets.sent == []

    run(claim())


def test_a_link_can_be_made_again_at_once(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await linked(pair)
        heard(pair.client)
        heard(pair.server)
        now.s += 6
        await pair.begin()
        assert pair.client.links.by_slot
        assert pair.server.links.by_slot

    run(claim())


def test_plain_wireguard_is_not_said_goodbye_to() -> None:
    async def claim() -> None:
        pair = Pair()
        await linked(pair)
        (udp_peer,) = pair.server.sessions._peers.by_slot.values()  # noqa: SLF001
        udp_peer.hello = HelloExchange()
        pair.server.sessions.say_goodbye()
        assert pair.server.sockets.sent == []

    run(claim())


def test_a_goodbye_of_an_earlier_session_ends_nothing(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await linked(pair)
        (before,) = pair.client.receiving
        await rekey(pair, now)
        pair.client.sessions.on_control(0, before, goodbye.MESSAGE)
        assert pair.client.links.by_slot
        heard(pair.client)
        assert pair.client.links.by_slot == {}

    run(claim())


@pytest.mark.parametrize(
    "content",
    [
        hello.TYPE,
        hello.TYPE + b"\x81\xa7goodbye\xc2",  # false
        hello.TYPE + b"\x81\xa7goodbye\x01",
        hello.TYPE + b"\x81\xa3bye\xc3",
        goodbye.MESSAGE + bytes(1),
        hello.encode(msgspec.structs.replace(HELLO, software="another")),
    ],
)
def test_what_is_not_quite_a_goodbye_ends_nothing(content: bytes) -> None:
    async def claim() -> None:
        pair = Pair()
        await linked(pair)
        heard(pair.client, content)
        assert pair.client.links.by_slot

    run(claim())


def test_a_handshake_that_is_under_way_survives_the_goodbye_of_the_session_before() -> None:
    async def claim() -> None:
        pair = Pair()
        await linked(pair)
        (udp_peer,) = pair.client.sessions._peers.by_slot.values()  # noqa: SLF001
        pair.server.sessions._handshakes.initiate(  # noqa: SLF001 (as one that is back)
            pair.server.sessions._peers.by_slot[0]  # noqa: SLF001
        )
        await asyncio.sleep(0.03)
        await pair.client.answer(pair.server.sent(), pair.server.address)
        old = next(iter(pair.client.receiving))
        pair.client.sessions.on_control(0, old, goodbye.MESSAGE)
        assert pair.client.links.by_slot == {}
        assert udp_peer.responding is not None
        await pair.settle()
        assert pair.client.links.by_slot

    run(claim())
