"""Sealed handshakes on a stream: which peers get in, and which get not a byte."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from fastun.config.push import Push
from fastun.link import hello
from fastun.link.established import Established
from fastun.link.hello import Ability, HelloError
from fastun.link.key_exchange import KeyExchange
from fastun.link.stream import framing
from fastun.link.stream.handshake import SealedHandshaker
from fastun.native import Aead
from fastun.session import clock, noise, transport
from fastun.session.protocol import NO_PRESHARED_KEY
from fastun.session.refusal import Refusal
from fastun.session.timestamps import Timestamps
from fastun.state_file import OwnFiles
from tests.support.parties import CLIENT, PSK, SERVER, STRANGER, refusal_of
from tests.support.stream_handshake import (
    HELLO,
    client,
    peer,
    peer_slots_of,
    pushed_to,
    reason_of,
    rest_of,
    say_as_client,
    server,
    together,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("preshared_key", [None, PSK])
def test_both_sides_know_each_other_and_hold_mirrored_keys(preshared_key: bytes | None) -> None:
    serving, connecting = server(peer("ant", CLIENT, preshared_key)), client(CLIENT, preshared_key)
    accepted, connected = together(serving.accept, connecting.connect)
    assert isinstance(accepted, Established)
    assert isinstance(connected, Established)
    assert (accepted.slotted.peer.name, connected.slotted.peer.name) == ("ant", "server")
    assert accepted.keys is not None
    assert connected.keys is not None
    assert accepted.keys.send == connected.keys.receive
    assert accepted.keys.receive == connected.keys.send
    assert accepted.aead is connected.aead is Aead.CHACHA20_POLY1305
    assert connected.hello is not None
    assert connected.hello.push == pushed_to(accepted.slotted)
    assert serving.exchange.results["ok"] == connecting.exchange.results["ok"] == 1
    assert "keys" not in repr(accepted)


def test_of_several_peers_the_one_with_the_key_is_meant() -> None:
    serving = server(peer("ant", STRANGER), peer("bee", CLIENT))
    accepted, connected = together(serving.accept, client().connect)
    assert accepted.slotted.peer.name == "bee"
    assert accepted.slotted.slot == 1
    assert connected.hello.push == pushed_to(accepted.slotted)


def test_a_stranger_with_a_sound_handshake_gets_not_a_byte() -> None:
    serving = server(peer("ant", CLIENT))

    async def stranger(connection: socket.socket) -> bytes:
        initiation, _ = noise.initiate(STRANGER, SERVER.public)
        await framing.send(connection, initiation)
        return await rest_of(connection)

    refused, answer = together(serving.accept, stranger)
    assert reason_of(refused) is Refusal.UNKNOWN_PEER
    assert answer == b""
    assert serving.exchange.results[Refusal.UNKNOWN_PEER] == 1
    assert serving.exchange.results["ok"] == 0


def test_a_recorded_initiation_gets_not_a_byte_on_another_connection() -> None:
    serving = server(peer("ant", CLIENT))
    recorded, _ = noise.initiate(CLIENT, SERVER.public)

    async def replay(connection: socket.socket) -> bytes:
        await framing.send(connection, recorded)
        connection.shutdown(socket.SHUT_WR)
        return await rest_of(connection)

    _, first = together(serving.accept, replay)
    assert len(first) == 2 + 92
    refused, second = together(serving.accept, replay)
    assert reason_of(refused) is Refusal.REPLAYED_TIMESTAMP
    assert second == b""
    assert serving.exchange.results[Refusal.REPLAYED_TIMESTAMP] == 1


@pytest.mark.parametrize("length", [149, 4096, 65535])
def test_nothing_longer_than_an_initiation_is_read(length: int) -> None:
    async def talker(connection: socket.socket) -> bytes:
        await asyncio.get_running_loop().sock_sendall(connection, length.to_bytes(2, "big"))
        return await rest_of(connection)

    refused, answer = together(server(peer("ant", CLIENT)).accept, talker)
    assert isinstance(refused, HelloError)
    assert answer == b""


def test_the_error_says_why_a_server_may_be_silent() -> None:
    connecting = SealedHandshaker(
        KeyExchange(peer_slots_of(peer("server", SERVER)), CLIENT, lambda _: HELLO)
    )

    async def silent(connection: socket.socket) -> None:
        await framing.receive(connection, 148)

    _, refused = together(silent, connecting.connect)
    assert isinstance(refused, HelloError)
    assert "check with 'fastun peer list'" in str(refused)


def test_the_preshared_key_is_the_peers_own() -> None:
    serving, connecting = server(peer("ant", CLIENT, PSK)), client(CLIENT, None)
    _, refused = together(serving.accept, connecting.connect)
    assert reason_of(refused) is Refusal.BAD_PSK_OR_KEY
    assert connecting.exchange.results[Refusal.BAD_PSK_OR_KEY] == 1
    assert serving.exchange.results["ok"] == connecting.exchange.results["ok"] == 0


def test_a_sealed_hello_has_a_longest_length() -> None:
    too_long = hello.TYPE.ljust(hello.HELLO_BYTES_MAX + 1)
    refused, answer = together(
        server(peer("ant", CLIENT)).accept,
        lambda connection: say_as_client(connection, 0, too_long),
    )
    assert isinstance(refused, HelloError)
    assert "4097 bytes" in str(refused)
    assert answer == b""


def test_a_replayed_handshake_gets_no_hello() -> None:
    serving = server(peer("ant", CLIENT))
    refused, answer = together(
        serving.accept,
        lambda connection: say_as_client(connection, 0, hello.encode(HELLO), is_tampered=True),
    )
    assert reason_of(refused) is Refusal.BAD_TAG
    assert answer == b""
    assert serving.exchange.results[Refusal.BAD_TAG] == 1
    assert serving.exchange.results["ok"] == 0


def test_the_hello_has_counter_0_because_the_lane_begins_at_1() -> None:
    serving = server(peer("ant", CLIENT))
    refused, answer = together(
        serving.accept, lambda connection: say_as_client(connection, 1, hello.encode(HELLO))
    )
    assert reason_of(refused) is Refusal.COUNTER_LIMIT
    assert answer == b""


@pytest.mark.parametrize("content", [b"", b"\x45" + bytes(19), hello.TYPE + b"\xc1"])
def test_an_authentic_peer_without_a_hello_is_refused(content: bytes) -> None:
    serving = server(peer("ant", CLIENT))
    refused, answer = together(
        serving.accept, lambda connection: say_as_client(connection, 0, content)
    )
    assert isinstance(refused, HelloError)
    assert answer == b""
    assert serving.exchange.results["ok"] == 0


def test_a_dialling_side_can_push_nothing() -> None:
    pushing = msgspec.structs.replace(HELLO, push=Push(keepalive=1))
    established, _ = together(
        server(peer("ant", CLIENT)).accept,
        SealedHandshaker(
            KeyExchange(peer_slots_of(peer("server", SERVER)), CLIENT, lambda _: pushing)
        ).connect,
    )
    assert established.hello == HELLO


@pytest.mark.parametrize("takes_push", [True, False])
def test_a_client_is_pushed_to_unless_its_hello_says_that_it_takes_none(takes_push: bool) -> None:
    abilities = frozenset({Ability.TAKES_PUSH} if takes_push else set())
    ours = msgspec.structs.replace(HELLO, abilities=abilities)
    exchange = KeyExchange(peer_slots_of(peer("server", SERVER)), CLIENT, lambda _: ours)
    serving = server(peer("ant", CLIENT))
    _, connected = together(serving.accept, SealedHandshaker(exchange).connect)
    assert connected.hello is not None
    assert (connected.hello.push is not None) == takes_push


def test_the_listening_sides_hello_has_counter_0_too() -> None:
    async def listening(connection: socket.socket) -> None:
        initiation = await framing.receive(connection, 148)
        consumed = noise.consume_initiation(SERVER, initiation)
        response, keys = noise.respond(consumed, NO_PRESHARED_KEY)
        await framing.send(connection, response)
        await framing.receive(connection, 65535)
        content = hello.encode(HELLO)
        await framing.send(
            connection, transport.seal_data(keys.send, keys.remote_index, 1, content)
        )

    _, refused = together(listening, client().connect)
    assert reason_of(refused) is Refusal.COUNTER_LIMIT


def test_a_closed_connection_says_where_to_look() -> None:
    async def listening(connection: socket.socket) -> None:
        await framing.receive(connection, 148)

    _, refused = together(listening, client().connect)
    assert isinstance(refused, HelloError)
    assert "check with 'fastun peer list'" in str(refused)


def test_a_response_without_the_preshared_key_is_refused_and_counted() -> None:
    async def impostor(connection: socket.socket) -> bytes:
        initiation = await framing.receive(connection, 148)
        response, _ = noise.respond(noise.consume_initiation(SERVER, initiation), NO_PRESHARED_KEY)
        await framing.send(connection, response)
        return await rest_of(connection)

    connecting = client(CLIENT, PSK)
    answer, refused = together(impostor, connecting.connect)
    assert reason_of(refused) is Refusal.BAD_PSK_OR_KEY
    assert answer == b"", "nothing is said under keys that are not shared"
    assert connecting.exchange.results[Refusal.BAD_PSK_OR_KEY] == 1


def test_an_initiation_is_admitted_once_and_each_refusal_counted() -> None:
    serving = server(peer("ant", CLIENT))
    initiation, _ = noise.initiate(CLIENT, SERVER.public)
    slotted, consumed = serving.exchange.admit(initiation)
    assert slotted.peer.name == "ant"
    assert consumed.peer_public == CLIENT.public
    assert refusal_of(lambda: serving.exchange.admit(initiation)) is Refusal.REPLAYED_TIMESTAMP
    assert refusal_of(lambda: serving.exchange.admit(initiation[:-1])) is Refusal.BAD_LENGTH
    assert serving.exchange.results[Refusal.REPLAYED_TIMESTAMP] == 1
    assert serving.exchange.results[Refusal.BAD_LENGTH] == 1


def test_a_clock_that_is_set_back_an_hour_gets_no_peer_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a client that goes on nor one that is started again, on either transport."""
    now_s, clock_ns = 1000.0, time.time_ns()

    def now_ns() -> int:
        return clock_ns

    monkeypatch.setattr(clock, "boottime_s", lambda: now_s)
    monkeypatch.setattr(time, "time_ns", now_ns)
    serving = server(peer("ant", CLIENT))
    for _ in range(3):
        peer_slots = peer_slots_of(peer("server", SERVER))
        timestamps = Timestamps(OwnFiles(tmp_path), CLIENT.public, now_ns)
        connecting = SealedHandshaker(KeyExchange(peer_slots, CLIENT, lambda _: HELLO, timestamps))
        for _ in range(2):
            now_s += 1
            accepted, _ = together(serving.accept, connecting.connect)
            assert isinstance(accepted, Established)
            now_s += 1
            serving.exchange.admit(connecting.exchange.initiate(peer_slots.by_slot[0])[0])
            clock_ns -= 3600 * 10**9
    assert serving.exchange.results[Refusal.REPLAYED_TIMESTAMP] == 0
