"""Greetings between two ends of a socket pair: who is let in, and who gets not a byte."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest

from fastun.lane.messages import LinkFormat
from fastun.link import hello
from fastun.link.hello import Hello, HelloError
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.link.push import Push
from fastun.link.source_limits import PROVEN_BURST_OF_ALL, PROVEN_PER_SECOND_OF_ALL
from fastun.link.stream import framing as frames
from fastun.link.stream import handshake as greeting
from fastun.link.stream.handshake import Established, PlainHandshaker, SealedHandshaker
from fastun.native import Aead
from fastun.peers.peer import Peer
from fastun.session import clock, noise, transport
from fastun.session.protocol import NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.timestamps import Timestamps
from tests.support.parties import CLIENT, PSK, SERVER, STRANGER, refusal_of
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from types import SimpleNamespace

    from fastun.session.keys import KeyPair

HELLO = Hello(
    version=hello.PROTOCOL_VERSION,
    software="fastun test",
    mode="tun",
    offload=("tcp",),
    message_max=60000,
    aeads=(hello.CHACHA,),
)


def pushed_to(slotted: SlottedPeer) -> Push:
    return Push(addresses=(f"10.9.0.{slotted.slot + 2}/24",))


def peer_slots_of(*peers: Peer) -> PeerSlots:
    peer_slots = PeerSlots(RecordingLane().as_lane())
    peer_slots.replace(peers)
    return peer_slots


def peer(name: str, pair: KeyPair, preshared_key: bytes | None = None) -> Peer:
    return Peer(name=name, public_key=pair.public, preshared_key=preshared_key)


def server(*peers: Peer, plain_format: LinkFormat | None = None) -> SealedHandshaker:
    def hello_for(slotted: SlottedPeer) -> Hello:
        assert slotted.peer in peers
        return msgspec.structs.replace(HELLO, push=pushed_to(slotted))

    return SealedHandshaker(peer_slots_of(*peers), SERVER, hello_for, plain_format)


def client(
    own: KeyPair = CLIENT,
    preshared_key: bytes | None = None,
    plain_format: LinkFormat | None = None,
) -> SealedHandshaker:
    peer_slots = peer_slots_of(peer("server", SERVER, preshared_key))
    return SealedHandshaker(peer_slots, own, lambda _: HELLO, plain_format)


def together(
    listening: Callable[[socket.socket], Awaitable[Any]],
    dialling: Callable[[socket.socket], Awaitable[Any]],
) -> tuple[Any, Any]:
    """Run both ends to their end; each gives its result or what it raised. Failing closes."""

    async def to_its_end(work: Awaitable[Any], end: socket.socket) -> Any:
        try:
            return await work
        except (HelloError, HandshakeError, OSError) as error:
            return error
        finally:
            end.shutdown(socket.SHUT_WR)

    async def both() -> tuple[Any, Any]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            return await asyncio.gather(
                to_its_end(listening(ours), ours), to_its_end(dialling(theirs), theirs)
            )

    return asyncio.run(asyncio.wait_for(both(), 10))


async def rest_of(connection: socket.socket) -> bytes:
    """All that the other side says until it ends the stream."""
    received = b""
    while piece := await asyncio.get_running_loop().sock_recv(connection, 65536):
        received += piece
    return received


def reason_of(result: object) -> Refusal | None:
    return result.reason if isinstance(result, HandshakeError) else None


# -- sealed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("preshared_key", [None, PSK])
def test_both_sides_know_each_other_and_hold_mirrored_keys(preshared_key: bytes | None) -> None:
    serving, connecting = server(peer("ant", CLIENT, preshared_key)), client(CLIENT, preshared_key)
    welcomed, approached = together(serving.accept, connecting.connect)
    assert isinstance(welcomed, Established)
    assert isinstance(approached, Established)
    assert (welcomed.slotted.peer.name, approached.slotted.peer.name) == ("ant", "server")
    assert welcomed.keys is not None
    assert approached.keys is not None
    assert welcomed.keys.send == approached.keys.receive
    assert welcomed.keys.receive == approached.keys.send
    assert welcomed.aead is approached.aead is Aead.CHACHA20_POLY1305
    assert approached.hello is not None
    assert approached.hello.push == pushed_to(welcomed.slotted)
    assert serving.results["ok"] == connecting.results["ok"] == 1
    assert "keys" not in repr(welcomed)


def test_of_several_peers_the_one_with_the_key_is_meant() -> None:
    serving = server(peer("ant", STRANGER), peer("bee", CLIENT))
    welcomed, approached = together(serving.accept, client().connect)
    assert welcomed.slotted.peer.name == "bee"
    assert welcomed.slotted.slot == 1
    assert approached.hello.push == pushed_to(welcomed.slotted)


def test_a_stranger_with_a_sound_handshake_gets_not_a_byte() -> None:
    serving = server(peer("ant", CLIENT))

    async def stranger(connection: socket.socket) -> bytes:
        initiation, _ = noise.initiate(STRANGER, SERVER.public)
        await frames.send(connection, initiation)
        return await rest_of(connection)

    refused, answer = together(serving.accept, stranger)
    assert reason_of(refused) is Refusal.UNKNOWN_PEER
    assert answer == b""
    assert serving.results[Refusal.UNKNOWN_PEER] == 1
    assert serving.results["ok"] == 0


def test_a_recorded_initiation_gets_not_a_byte_on_another_connection() -> None:
    serving = server(peer("ant", CLIENT))
    recorded, _ = noise.initiate(CLIENT, SERVER.public)

    async def replay(connection: socket.socket) -> bytes:
        await frames.send(connection, recorded)
        connection.shutdown(socket.SHUT_WR)
        return await rest_of(connection)

    _, first = together(serving.accept, replay)
    assert len(first) == 2 + 92
    refused, second = together(serving.accept, replay)
    assert reason_of(refused) is Refusal.REPLAYED_TIMESTAMP
    assert second == b""
    assert serving.results[Refusal.REPLAYED_TIMESTAMP] == 1


@pytest.mark.parametrize("length", [149, 4096, 65535])
def test_nothing_longer_than_an_initiation_is_read(length: int) -> None:
    async def talker(connection: socket.socket) -> bytes:
        await asyncio.get_running_loop().sock_sendall(connection, length.to_bytes(2, "big"))
        return await rest_of(connection)

    refused, answer = together(server(peer("ant", CLIENT)).accept, talker)
    assert isinstance(refused, HelloError)
    assert answer == b""


# -- what a first message can be --------------------------------------------------------------


def opening_of(initiation: bytes) -> bytes:
    return len(initiation).to_bytes(2, "big") + initiation


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 5, 6, 7, 100, 149, 150])
def test_an_initiation_may_be_one_from_its_first_byte_on(n_bytes: int) -> None:
    serving = server(peer("ant", CLIENT))
    assert serving.opening_bytes == 150
    serving.check_opening(opening_of(noise.initiate(CLIENT, SERVER.public)[0])[:n_bytes])
    assert not any(serving.results.values())


@pytest.mark.parametrize("length", [*range(148), *range(149, 300), 4096, 0x9400, 65535])
def test_every_other_length_is_refused_with_its_two_bytes(length: int) -> None:
    serving = server(peer("ant", CLIENT))
    with pytest.raises(HandshakeError, match="bad_length"):
        serving.check_opening(length.to_bytes(2, "big"))
    assert serving.results[Refusal.BAD_LENGTH] == 1


@pytest.mark.parametrize(
    "head", [b"\x00", b"\x02", b"\x03\0\0\0", b"\x04\0\0\0", b"\x01\x01", b"\x01\0\0\x01", b"\xff"]
)
def test_every_other_type_is_refused_with_its_bytes(head: bytes) -> None:
    serving = server(peer("ant", CLIENT))
    with pytest.raises(HandshakeError, match="bad_type"):
        serving.check_opening(b"\x00\x94" + head)
    assert serving.results[Refusal.BAD_TYPE] == 1


def test_an_initiation_for_another_key_is_refused_before_any_diffie_hellman(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serving = server(peer("ant", CLIENT))
    theirs = opening_of(noise.initiate(CLIENT, STRANGER.public)[0])
    monkeypatch.setattr("fastun.session.ikpsk2.dh", lambda *_: pytest.fail("a DH"))
    with pytest.raises(HandshakeError, match="bad_mac1"):
        serving.check_opening(theirs)
    assert serving.results[Refusal.BAD_MAC1] == 1


def test_of_all_sources_so_many_a_second_pass_and_garbage_takes_nothing_of_that(
    now: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = server(peer("ant", CLIENT))
    good = opening_of(noise.initiate(CLIENT, SERVER.public)[0])
    monkeypatch.setattr("fastun.session.ikpsk2.dh", lambda *_: pytest.fail("a DH"))
    for _ in range(1000):
        with pytest.raises(HandshakeError, match="bad_mac1"):
            serving.check_opening(good[:-20] + bytes(20))
    for _ in range(PROVEN_BURST_OF_ALL):
        serving.check_opening(good)
    with pytest.raises(HandshakeError, match="too_many"):
        serving.check_opening(good)
    assert serving.results[Refusal.TOO_MANY] == 1
    now.s += 0.01
    for _ in range(PROVEN_PER_SECOND_OF_ALL // 100):
        serving.check_opening(good)
    with pytest.raises(HandshakeError, match="too_many"):
        serving.check_opening(good)


def test_a_first_message_that_was_read_already_is_taken() -> None:
    serving = server(peer("ant", CLIENT))
    initiation, _ = noise.initiate(CLIENT, SERVER.public)

    async def silent(connection: socket.socket) -> bytes:
        response = await frames.receive(connection, 92)
        connection.shutdown(socket.SHUT_WR)
        return response

    _, response = together(lambda end: serving.accept(end, opening_of(initiation)), silent)
    assert response[:4] == bytes([2, 0, 0, 0])


def test_a_member_greets_on_one_connection_at_a_time_the_last(
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


@pytest.mark.parametrize("mode", ["tun", "tap"])
def test_a_client_is_told_why_a_server_may_be_silent(mode: Literal["tun", "tap"]) -> None:
    connecting = SealedHandshaker(
        peer_slots_of(peer("server", SERVER)),
        CLIENT,
        lambda _: msgspec.structs.replace(HELLO, mode=mode),
    )

    async def silent(connection: socket.socket) -> None:
        await frames.receive(connection, 148)

    _, refused = together(silent, connecting.connect)
    assert isinstance(refused, HelloError)
    assert "does it know this key?" in str(refused)
    assert ("TAP device" in str(refused)) == (mode == "tap")


def test_the_preshared_key_is_the_peers_own() -> None:
    serving, connecting = server(peer("ant", CLIENT, PSK)), client(CLIENT, None)
    _, refused = together(serving.accept, connecting.connect)
    assert reason_of(refused) is Refusal.BAD_PSK_OR_KEY
    assert connecting.results[Refusal.BAD_PSK_OR_KEY] == 1
    assert serving.results["ok"] == connecting.results["ok"] == 0


async def _say(
    connection: socket.socket, counter: int, content: bytes, *, is_tampered: bool = False
) -> bytes:
    """Shake hands as the client, then seal `content` where the hello belongs; what comes back."""
    initiation, state = noise.initiate(CLIENT, SERVER.public)
    await frames.send(connection, initiation)
    response = await frames.receive(connection, 92)
    keys = noise.consume_response(CLIENT, state, response, NO_PRESHARED_KEY)
    message = transport.seal_data(keys.send, keys.remote_index, counter, content)
    if is_tampered:
        message = message[:-1] + bytes([message[-1] ^ 1])
    await frames.send(connection, message)
    return await rest_of(connection)


def test_a_sealed_hello_has_a_longest_length() -> None:
    too_long = hello.TYPE.ljust(hello.HELLO_BYTES_MAX + 1)
    refused, answer = together(
        server(peer("ant", CLIENT)).accept, lambda connection: _say(connection, 0, too_long)
    )
    assert isinstance(refused, HelloError)
    assert "4097 bytes" in str(refused)
    assert answer == b""


def test_who_only_replays_the_handshake_gets_no_hello() -> None:
    serving = server(peer("ant", CLIENT))
    refused, answer = together(
        serving.accept,
        lambda connection: _say(connection, 0, hello.encode(HELLO), is_tampered=True),
    )
    assert reason_of(refused) is Refusal.BAD_TAG
    assert answer == b""
    assert serving.results[Refusal.BAD_TAG] == 1
    assert serving.results["ok"] == 0


def test_the_hello_has_counter_0_because_the_lane_begins_at_1() -> None:
    serving = server(peer("ant", CLIENT))
    refused, answer = together(
        serving.accept, lambda connection: _say(connection, 1, hello.encode(HELLO))
    )
    assert reason_of(refused) is Refusal.COUNTER_LIMIT
    assert answer == b""


@pytest.mark.parametrize("content", [b"", b"\x45" + bytes(19), hello.TYPE + b"\xc1"])
def test_an_authentic_peer_without_a_hello_is_refused(content: bytes) -> None:
    serving = server(peer("ant", CLIENT))
    refused, answer = together(serving.accept, lambda connection: _say(connection, 0, content))
    assert isinstance(refused, HelloError)
    assert answer == b""
    assert serving.results["ok"] == 0


def test_who_dials_can_push_nothing() -> None:
    pushing = msgspec.structs.replace(HELLO, push=Push(keepalive=1))
    established, _ = together(
        server(peer("ant", CLIENT)).accept,
        SealedHandshaker(peer_slots_of(peer("server", SERVER)), CLIENT, lambda _: pushing).connect,
    )
    assert established.hello == HELLO


def test_the_listening_sides_hello_has_counter_0_too() -> None:
    async def listening(connection: socket.socket) -> None:
        initiation = await frames.receive(connection, 148)
        consumed = noise.consume_initiation(SERVER, initiation)
        response, keys = noise.respond(consumed, NO_PRESHARED_KEY)
        await frames.send(connection, response)
        await frames.receive(connection, 65535)
        content = hello.encode(HELLO)
        await frames.send(connection, transport.seal_data(keys.send, keys.remote_index, 1, content))

    _, refused = together(listening, client().connect)
    assert reason_of(refused) is Refusal.COUNTER_LIMIT


def test_who_is_hung_up_on_is_told_where_to_look() -> None:
    async def listening(connection: socket.socket) -> None:
        await frames.receive(connection, 148)

    _, refused = together(listening, client().connect)
    assert isinstance(refused, HelloError)
    assert "does it know this key?" in str(refused)


def test_a_response_by_somebody_else_is_refused_and_counted() -> None:
    async def impostor(connection: socket.socket) -> bytes:
        initiation = await frames.receive(connection, 148)
        response, _ = noise.respond(noise.consume_initiation(SERVER, initiation), NO_PRESHARED_KEY)
        await frames.send(connection, response)
        return await rest_of(connection)

    connecting = client(CLIENT, PSK)
    answer, refused = together(impostor, connecting.connect)
    assert reason_of(refused) is Refusal.BAD_PSK_OR_KEY
    assert answer == b"", "nothing is said under keys that are not shared"
    assert connecting.results[Refusal.BAD_PSK_OR_KEY] == 1


def test_an_initiation_is_admitted_once_and_each_refusal_counted() -> None:
    serving = server(peer("ant", CLIENT))
    initiation, _ = noise.initiate(CLIENT, SERVER.public)
    slotted, consumed = serving.admit(initiation)
    assert slotted.peer.name == "ant"
    assert consumed.peer_public == CLIENT.public
    assert refusal_of(lambda: serving.admit(initiation)) is Refusal.REPLAYED_TIMESTAMP
    assert refusal_of(lambda: serving.admit(initiation[:-1])) is Refusal.BAD_LENGTH
    assert serving.results[Refusal.REPLAYED_TIMESTAMP] == 1
    assert serving.results[Refusal.BAD_LENGTH] == 1


# -- plain WireGuard, on a stream -------------------------------------------------------------

PLAIN_FORMAT = LinkFormat(2, 0, super_outbound=False, super_inbound=False, message_max=60000)


def test_who_sends_data_instead_of_a_hello_gets_plain_data_and_no_hello() -> None:
    serving = server(peer("ant", CLIENT), plain_format=PLAIN_FORMAT)
    welcomed, answer = together(serving.accept, lambda connection: _say(connection, 0, b""))
    assert (welcomed.link_format, welcomed.hello) == (PLAIN_FORMAT, None)
    assert welcomed.software == hello.PLAIN_WIREGUARD
    assert welcomed.n_opened == 1
    assert answer == b""
    assert serving.results["ok"] == 1


def test_whom_we_have_dialled_and_who_waits_for_data_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(greeting, "_PLAIN_AFTER_S", 0.05)

    async def listening(connection: socket.socket) -> None:
        initiation = await frames.receive(connection, 148)
        consumed = noise.consume_initiation(SERVER, initiation)
        response, _ = noise.respond(consumed, NO_PRESHARED_KEY)
        await frames.send(connection, response)
        await asyncio.sleep(0.5)

    _, approached = together(listening, client(plain_format=PLAIN_FORMAT).connect)
    assert (approached.link_format, approached.hello) == (PLAIN_FORMAT, None)
    assert approached.n_opened == 0


def test_who_says_hello_is_not_plain_wireguard() -> None:
    serving = server(peer("ant", CLIENT), plain_format=PLAIN_FORMAT)
    welcomed, approached = together(serving.accept, client(plain_format=PLAIN_FORMAT).connect)
    for established in (welcomed, approached):
        assert established.hello is not None
        assert established.link_format != PLAIN_FORMAT
        assert established.n_opened == 1


@pytest.mark.parametrize("side", ["accept", "connect"])
def test_who_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch, side: str) -> None:
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
    welcomed, approached = together(handshaker.accept, handshaker.connect)
    for established in (welcomed, approached):
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


def test_a_clock_that_is_set_back_an_hour_has_nobody_refused(
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
        connecting = SealedHandshaker(
            peer_slots,
            CLIENT,
            lambda _: HELLO,
            timestamps=Timestamps(tmp_path, CLIENT.public, now_ns),
        )
        for _ in range(2):
            now_s += 1
            welcomed, _ = together(serving.accept, connecting.connect)
            assert isinstance(welcomed, Established)
            now_s += 1
            serving.admit(connecting.initiate(peer_slots.by_slot[0])[0])
            clock_ns -= 3600 * 10**9
    assert serving.results[Refusal.REPLAYED_TIMESTAMP] == 0
