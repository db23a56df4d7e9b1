"""Handshakes on a stream with plain WireGuard peers, and on the plain wire."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fastun.lane.messages import LinkFormat
from fastun.link import hello
from fastun.link.hello import HelloError
from fastun.link.stream import framing
from fastun.link.stream import handshake as handshake_module
from fastun.link.stream.handshake import PlainHandshaker
from fastun.peers.peer import Peer
from fastun.session import noise
from fastun.session.protocol import NO_PRESHARED_KEY
from tests.support.parties import CLIENT, SERVER
from tests.support.stream_handshake import (
    HELLO,
    client,
    peer,
    peer_slots_of,
    rest_of,
    say_as_client,
    server,
    together,
)

# -- plain WireGuard, on a stream -------------------------------------------------------------

PLAIN_FORMAT = LinkFormat(2, 0, super_outbound=False, super_inbound=False, message_max=60000)


def test_a_peer_that_sends_data_instead_of_a_hello_gets_plain_data_and_no_hello() -> None:
    serving = server(peer("ant", CLIENT), plain_format=PLAIN_FORMAT)
    accepted, answer = together(
        serving.accept, lambda connection: say_as_client(connection, 0, b"")
    )
    assert (accepted.link_format, accepted.hello) == (PLAIN_FORMAT, None)
    assert accepted.software == hello.PLAIN_WIREGUARD
    assert accepted.n_opened == 1
    assert answer == b""
    assert serving.exchange.results["ok"] == 1


def test_a_dialled_peer_that_waits_for_data_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshake_module, "_PLAIN_AFTER_S", 0.05)

    async def listening(connection: socket.socket) -> None:
        initiation = await framing.receive(connection, 148)
        consumed = noise.consume_initiation(SERVER, initiation)
        response, _ = noise.respond(consumed, NO_PRESHARED_KEY)
        await framing.send(connection, response)
        await asyncio.sleep(0.5)

    _, connected = together(listening, client(plain_format=PLAIN_FORMAT).connect)
    assert (connected.link_format, connected.hello) == (PLAIN_FORMAT, None)
    assert connected.n_opened == 0


def test_a_peer_that_says_hello_is_not_plain_wireguard() -> None:
    serving = server(peer("ant", CLIENT), plain_format=PLAIN_FORMAT)
    accepted, connected = together(serving.accept, client(plain_format=PLAIN_FORMAT).connect)
    for established in (accepted, connected):
        assert established.hello is not None
        assert established.link_format != PLAIN_FORMAT
        assert established.n_opened == 1


@pytest.mark.parametrize("side", ["accept", "connect"])
def test_a_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    monkeypatch.setattr(hello, "HELLO_TIMEOUT_S", 0.05)
    handshaker = server(peer("ant", CLIENT)) if side == "accept" else client()

    async def silent(_: socket.socket) -> None:
        await asyncio.sleep(0.3)

    given_up, _ = together(getattr(handshaker, side), silent)
    assert isinstance(given_up, TimeoutError)


# -- unsealed ---------------------------------------------------------------------------------


def test_on_the_plain_wire_both_say_hello_and_the_one_peer_is_meant() -> None:
    peer_slots = peer_slots_of(Peer(name="ant", public_key=bytes(32)))
    handshaker = PlainHandshaker(peer_slots, HELLO)
    accepted, connected = together(handshaker.accept, handshaker.connect)
    for established in (accepted, connected):
        assert established.slotted.peer.name == "ant"
        assert established.keys is None
        assert established.hello == HELLO


def test_a_plain_hello_has_a_longest_length() -> None:
    async def talker(connection: socket.socket) -> bytes:
        too_long = (hello.HELLO_BYTES_MAX + 1).to_bytes(2, "big")
        await asyncio.get_running_loop().sock_sendall(connection, too_long)
        return await rest_of(connection)

    handshaker = PlainHandshaker(peer_slots_of(Peer(name="ant", public_key=bytes(32))), HELLO)
    refused, _ = together(handshaker.accept, talker)
    assert isinstance(refused, HelloError)
