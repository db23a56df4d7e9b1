"""What the first message of a sealed stream can be, before any Diffie-Hellman."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from fastun.link.source_limits import PROVEN_BURST_OF_ALL, PROVEN_PER_SECOND_OF_ALL
from fastun.link.stream import framing
from fastun.session import noise
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.symmetric_state import SymmetricState
from tests.support.parties import CLIENT, SERVER, STRANGER
from tests.support.stream_handshake import (
    opening_of,
    peer,
    server,
    together,
)

if TYPE_CHECKING:
    from types import SimpleNamespace


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 5, 6, 7, 100, 149, 150])
def test_an_initiation_may_be_one_from_its_first_byte_on(n_bytes: int) -> None:
    serving = server(peer("ant", CLIENT))
    assert serving.opening_bytes == 150
    serving.check_opening(opening_of(noise.initiate(CLIENT, SERVER.public)[0])[:n_bytes])
    assert not any(serving.exchange.results.values())


@pytest.mark.parametrize("length", [*range(148), *range(149, 300), 4096, 0x9400, 65535])
def test_every_other_length_is_refused_with_its_two_bytes(length: int) -> None:
    serving = server(peer("ant", CLIENT))
    with pytest.raises(HandshakeError, match="bad_length"):
        serving.check_opening(length.to_bytes(2, "big"))
    assert serving.exchange.results[Refusal.BAD_LENGTH] == 1


@pytest.mark.parametrize(
    "head", [b"\x00", b"\x02", b"\x03\0\0\0", b"\x04\0\0\0", b"\x01\x01", b"\x01\0\0\x01", b"\xff"]
)
def test_every_other_type_is_refused_with_its_bytes(head: bytes) -> None:
    serving = server(peer("ant", CLIENT))
    with pytest.raises(HandshakeError, match="bad_type"):
        serving.check_opening(b"\x00\x94" + head)
    assert serving.exchange.results[Refusal.BAD_TYPE] == 1


def test_an_initiation_for_another_key_is_refused_before_any_diffie_hellman(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serving = server(peer("ant", CLIENT))
    theirs = opening_of(noise.initiate(CLIENT, STRANGER.public)[0])
    monkeypatch.setattr(SymmetricState, "mix_dh", lambda *_: pytest.fail("a DH"))
    with pytest.raises(HandshakeError, match="bad_mac1"):
        serving.check_opening(theirs)
    assert serving.exchange.results[Refusal.BAD_MAC1] == 1


def test_of_all_sources_so_many_a_second_pass_and_garbage_takes_nothing_of_that(
    now: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = server(peer("ant", CLIENT))
    good = opening_of(noise.initiate(CLIENT, SERVER.public)[0])
    monkeypatch.setattr(SymmetricState, "mix_dh", lambda *_: pytest.fail("a DH"))
    for _ in range(1000):
        with pytest.raises(HandshakeError, match="bad_mac1"):
            serving.check_opening(good[:-20] + bytes(20))
    for _ in range(PROVEN_BURST_OF_ALL):
        serving.check_opening(good)
    with pytest.raises(HandshakeError, match="too_many"):
        serving.check_opening(good)
    assert serving.exchange.results[Refusal.TOO_MANY] == 1
    now.s += 0.01
    for _ in range(PROVEN_PER_SECOND_OF_ALL // 100):
        serving.check_opening(good)
    with pytest.raises(HandshakeError, match="too_many"):
        serving.check_opening(good)


def test_a_first_message_that_was_read_already_is_taken() -> None:
    serving = server(peer("ant", CLIENT))
    initiation, _ = noise.initiate(CLIENT, SERVER.public)

    async def silent(connection: socket.socket) -> bytes:
        response = await framing.receive(connection, 92)
        connection.shutdown(socket.SHUT_WR)
        return response

    _, response = together(lambda end: serving.accept(end, opening_of(initiation)), silent)
    assert response[:4] == bytes([2, 0, 0, 0])


def test_a_peer_has_one_handshake_at_a_time_on_its_newest_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastun.session.protocol.INITIATION_INTERVAL_S", 0)
    serving = server(peer("ant", CLIENT), peer("bee", STRANGER))

    async def claim() -> None:
        ends: list[socket.socket] = []
        tasks = []
        for pair in (CLIENT, STRANGER, CLIENT):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            ends += [ours, theirs]
            opening = opening_of(noise.initiate(pair, SERVER.public)[0])
            tasks.append(asyncio.create_task(serving.accept(ours, opening)))
            await asyncio.sleep(0.05)
        assert [task.cancelled() for task in tasks] == [True, False, False]
        assert not any(task.done() for task in tasks[1:])
        for end in ends:
            end.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            end.close()

    asyncio.run(asyncio.wait_for(claim(), 10))
