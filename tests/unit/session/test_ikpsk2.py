"""Noise_IKpsk2 against Cacophony's vector, and the handshake against another implementation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from noise.connection import Keypair, NoiseConnection

from fastun.native import Aead
from fastun.native.secrets import Secret
from fastun.session import cookies, ikpsk2, keys, noise
from fastun.session.ikpsk2 import FirstMessage, SecondMessage
from fastun.session.messages import Initiation, Response
from fastun.session.protocol import CONSTRUCTION, IDENTIFIER, NO_PRESHARED_KEY
from fastun.session.refusal import Refusal
from fastun.session.transport import open_data, seal_data
from tests.support.parties import CLIENT, PSK, SERVER, load_vectors, refusal_of

if TYPE_CHECKING:
    from fastun.session.transport import SessionKeys

HEADER_BYTES = 16  # of a data message; Noise itself has none


def test_both_sides_say_byte_for_byte_what_cacophony_says() -> None:
    vector: dict[str, Any] = load_vectors("cacophony_ikpsk2.json")
    assert vector["protocol_name"].encode() == CONSTRUCTION
    names = (
        "init_static",
        "init_ephemeral",
        "init_remote_static",
        "resp_static",
        "resp_ephemeral",
        "init_prologue",
        "handshake_hash",
    )
    of = {name: bytes.fromhex(vector[name]) for name in names}
    psk = bytes.fromhex(vector["init_psks"][0])
    prologue = of["init_prologue"]
    messages = [
        (bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"]))
        for message in vector["messages"]
    ]
    client, server = keys.pair_of(of["init_static"]), keys.pair_of(of["resp_static"])
    client_ephemeral = keys.pair_of(of["init_ephemeral"])
    server_ephemeral = keys.pair_of(of["resp_ephemeral"])
    assert server.public == of["init_remote_static"]

    (payload, expected) = messages[0]
    first, client_state = ikpsk2.write_first(
        client, client_ephemeral, server.public, prologue, payload
    )
    assert first.ephemeral + first.sealed_static + first.sealed_payload == expected
    static, received, server_state = ikpsk2.read_first(
        server, FirstMessage(expected[:32], expected[32:80], expected[80:]), prologue
    )
    assert (static, received) == (client.public, payload)

    (payload, expected) = messages[1]
    second, server_state = ikpsk2.write_second(
        server_state,
        ephemeral=server_ephemeral,
        initiator_ephemeral=client_ephemeral.public,
        initiator_public=client.public,
        preshared_key=psk,
        payload=payload,
    )
    assert second.ephemeral + second.sealed_payload == expected
    received, client_state = ikpsk2.read_second(
        client_state, client, client_ephemeral, SecondMessage(expected[:32], expected[32:]), psk
    )
    assert received == payload
    assert client_state.hash == server_state.hash == of["handshake_hash"]

    assert client_state.split() == server_state.split()
    directions = client_state.split()
    for number, (payload, expected) in enumerate(messages[2:]):
        key = directions[number % 2]  # the initiator speaks first
        assert key.seal(Aead.CHACHA20_POLY1305, number // 2, payload) == expected


def oracle(role: str, preshared_key: bytes) -> NoiseConnection:
    """Return a party of `noiseprotocol`, which knows Noise and nothing of WireGuard."""
    other = NoiseConnection.from_name(CONSTRUCTION)
    other.set_psks(preshared_key)
    other.set_prologue(IDENTIFIER)
    own = CLIENT if role == "initiator" else SERVER
    other.set_keypair_from_private_bytes(Keypair.STATIC, own.private)
    if role == "initiator":
        other.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, SERVER.public)
        other.set_as_initiator()
    else:
        other.set_as_responder()
    other.start_handshake()
    return other


def assert_talks_both_ways(session: SessionKeys, other: NoiseConnection) -> None:
    for counter in range(3):
        message = seal_data(session.send, session.remote_index, counter, b"to the oracle")
        assert other.decrypt(message[HEADER_BYTES:]) == b"to the oracle"
        header = seal_data(Secret.of(bytes(32)), session.local_index, counter, b"")[:HEADER_BYTES]
        reply = header + other.encrypt(b"from the oracle")
        assert open_data(session.receive, session.local_index, reply) == (
            counter,
            b"from the oracle",
        )


@pytest.mark.parametrize("psk", [NO_PRESHARED_KEY, PSK])
def test_our_initiator_and_the_oracle_understand_each_other(psk: bytes) -> None:
    other = oracle("responder", psk)
    timestamp = bytes(range(12))
    initiation, state = noise.initiate(CLIENT, SERVER.public, timestamp=timestamp)
    assert other.read_message(initiation[8:116]) == timestamp
    answer = bytes(other.write_message(b""))
    body = Response(77, state.local_index, answer[:32], answer[32:]).pack()
    session = noise.consume_response(CLIENT, state, cookies.append_macs(body, CLIENT.public), psk)
    assert session.remote_index == 77
    assert_talks_both_ways(session, other)


@pytest.mark.parametrize("psk", [NO_PRESHARED_KEY, PSK])
def test_our_responder_and_the_oracle_understand_each_other(psk: bytes) -> None:
    other = oracle("initiator", psk)
    timestamp = bytes(range(12))
    asked = bytes(other.write_message(timestamp))
    body = Initiation(66, asked[:32], asked[32:80], asked[80:]).pack()
    consumed = noise.consume_initiation(SERVER, cookies.append_macs(body, SERVER.public))
    assert (consumed.peer_public, consumed.timestamp) == (CLIENT.public, timestamp)
    response, session = noise.respond(consumed, psk)
    assert session.remote_index == 66
    assert other.read_message(response[12:60]) == b""
    assert other.handshake_finished
    assert_talks_both_ways(session, other)


def test_the_oracle_with_another_preshared_key_is_refused() -> None:
    other = oracle("responder", PSK)
    initiation, state = noise.initiate(CLIENT, SERVER.public)
    other.read_message(initiation[8:116])
    answer = bytes(other.write_message(b""))
    body = Response(77, state.local_index, answer[:32], answer[32:]).pack()
    response = cookies.append_macs(body, CLIENT.public)
    reason = refusal_of(lambda: noise.consume_response(CLIENT, state, response))
    assert reason is Refusal.BAD_PSK_OR_KEY
