"""The handshake: who gets in, and for what reason each other message is refused."""

from __future__ import annotations

import pytest
from msgspec import structs

from fastun.session import clock, cookies, ikpsk2, keys, noise, tai64n
from fastun.session.messages import MACS_BYTES, Initiation, Response
from fastun.session.protocol import IDENTIFIER
from fastun.session.refusal import Refusal
from fastun.session.transport import Aead, open_data, seal_data
from tests.support.parties import (
    CLIENT,
    LOW_ORDER_POINTS,
    PSK,
    SERVER,
    STRANGER,
    flip_bit,
    refusal_of,
    shake_hands,
    with_right_macs,
)


@pytest.mark.parametrize("psk", [bytes(32), PSK])
def test_both_sides_derive_mirrored_keys(psk: bytes) -> None:
    done = shake_hands(psk)
    assert done.client.send == done.server.receive
    assert done.client.receive == done.server.send
    assert done.client.send != done.client.receive
    assert (done.client.local_index, done.client.remote_index) == (
        done.server.remote_index,
        done.server.local_index,
    )
    assert done.client.is_initiator
    assert not done.server.is_initiator


def test_the_messages_have_the_sizes_and_types_of_the_protocol() -> None:
    done = shake_hands()
    assert (len(done.initiation), done.initiation[:4]) == (148, b"\1\0\0\0")
    assert (len(done.response), done.response[:4]) == (92, b"\2\0\0\0")
    assert done.initiation[132:] == done.response[76:] == bytes(16)  # no cookie, no mac2


def test_indices_ephemeral_keys_and_timestamps_are_fresh_each_time() -> None:
    first, second = shake_hands(), shake_hands()
    assert first.initiation[4:8] != second.initiation[4:8]
    assert first.initiation[8:40] != second.initiation[8:40]
    assert first.response[4:8] != second.response[4:8]
    assert first.response[12:44] != second.response[12:44]
    assert first.client.send != second.client.send


def test_what_is_given_is_used_so_that_a_handshake_can_be_repeated() -> None:
    ephemeral = keys.pair_of(bytes([5] * 32))
    timestamp = tai64n.from_unix_ns(10**18)
    again = [
        noise.initiate(
            CLIENT, SERVER.public, local_index=7, ephemeral=ephemeral, timestamp=timestamp
        )[0]
        for _ in range(2)
    ]
    assert again[0] == again[1]
    assert again[0][4:8] == b"\7\0\0\0"
    assert again[0][8:40] == ephemeral.public
    consumed = noise.consume_initiation(SERVER, again[0])
    assert consumed.timestamp == timestamp
    response, session = noise.respond(consumed, local_index=8, ephemeral=ephemeral, now_s=99.5)
    assert response[4:12] == b"\x08\0\0\0\x07\0\0\0"
    assert response[12:44] == ephemeral.public
    assert session.created_s == 99.5


def test_a_session_is_born_now_by_the_clock_that_sleep_does_not_stop() -> None:
    before_s = clock.boottime_s()
    done = shake_hands()
    for session in (done.client, done.server):
        assert before_s <= session.created_s <= clock.boottime_s()


def test_an_initiation_carries_the_time() -> None:
    before = tai64n.now()
    message, _ = noise.initiate(CLIENT, SERVER.public)
    assert before <= noise.consume_initiation(SERVER, message).timestamp <= tai64n.now()


def test_no_key_shows_in_what_is_printed() -> None:
    _, state = noise.initiate(CLIENT, SERVER.public)
    consumed = noise.consume_initiation(SERVER, noise.initiate(CLIENT, SERVER.public)[0])
    done = shake_hands(PSK)
    for value in (CLIENT, state, consumed, done.client, consumed.symmetric):
        assert repr(CLIENT.private) not in repr(value)
    for value in (state.ephemeral.private, done.client.send, done.client.receive):
        assert repr(value) == "Secret()"


def test_a_handshake_that_is_refused_half_way_leaves_its_state_as_it_was() -> None:
    message, state = noise.initiate(CLIENT, SERVER.public)
    consumed = noise.consume_initiation(SERVER, message)
    before = consumed.symmetric.hash
    noise.respond(consumed, PSK)
    assert consumed.symmetric.hash == before
    response, server = noise.respond(consumed)
    assert noise.consume_response(CLIENT, state, response).send == server.receive


# The initiation


def test_an_initiation_for_another_peer_is_refused_by_its_mac1() -> None:
    message, _ = noise.initiate(CLIENT, STRANGER.public)
    assert refusal_of(lambda: noise.consume_initiation(SERVER, message)) is Refusal.BAD_MAC1


def test_an_initiation_for_another_peer_does_not_open_under_a_right_mac1_either() -> None:
    message, _ = noise.initiate(CLIENT, STRANGER.public)
    forged = with_right_macs(message, SERVER.public)
    assert refusal_of(lambda: noise.consume_initiation(SERVER, forged)) is Refusal.BAD_STATIC


@pytest.mark.parametrize("length", [0, 3, 4, 31, 32, 147, 149, 65535])
def test_an_initiation_of_another_length_is_refused(length: int) -> None:
    message, _ = noise.initiate(CLIENT, SERVER.public)
    cut = (message + bytes(65535))[:length]
    assert refusal_of(lambda: noise.consume_initiation(SERVER, cut)) is Refusal.BAD_LENGTH


def test_a_response_is_not_an_initiation_and_the_other_way_round() -> None:
    done = shake_hands()
    _, state = noise.initiate(CLIENT, SERVER.public)
    assert refusal_of(lambda: noise.consume_initiation(SERVER, done.response)) is Refusal.BAD_TYPE
    reason = refusal_of(lambda: noise.consume_response(CLIENT, state, done.initiation))
    assert reason is Refusal.BAD_TYPE


def test_who_does_not_hold_the_private_key_of_the_public_key_it_shows_is_refused() -> None:
    claimed = keys.KeyPair(STRANGER.private, CLIENT.public)
    message, _ = noise.initiate(claimed, SERVER.public)
    assert refusal_of(lambda: noise.consume_initiation(SERVER, message)) is Refusal.BAD_TIMESTAMP


@pytest.mark.parametrize("point", LOW_ORDER_POINTS, ids=bytes.hex)
def test_low_order_points_are_refused_wherever_they_stand(point: bytes) -> None:
    assert refusal_of(lambda: noise.initiate(CLIENT, point)) is Refusal.LOW_ORDER_POINT
    # As the initiator's ephemeral key.
    message, state = noise.initiate(CLIENT, SERVER.public)
    forged = with_right_macs(message[:8] + point + message[40:], SERVER.public)
    reason = refusal_of(lambda: noise.consume_initiation(SERVER, forged))
    assert reason is Refusal.LOW_ORDER_POINT
    # As the initiator's static key, well sealed.
    liar = keys.KeyPair(CLIENT.private, point)
    message, _ = noise.initiate(liar, SERVER.public)
    reason = refusal_of(lambda: noise.consume_initiation(SERVER, message))
    assert reason is Refusal.LOW_ORDER_POINT
    # As the responder's ephemeral key.
    body = Response(1, state.local_index, point, bytes(16)).pack()
    forged = cookies.append_macs(body, CLIENT.public)
    reason = refusal_of(lambda: noise.consume_response(CLIENT, state, forged))
    assert reason is Refusal.LOW_ORDER_POINT


def test_another_protocol_name_in_the_prologue_does_not_open() -> None:
    first, _ = ikpsk2.write_first(
        CLIENT, keys.pair_of(bytes([9] * 32)), SERVER.public, IDENTIFIER + b"!", bytes(12)
    )
    body = Initiation(1, first.ephemeral, first.sealed_static, first.sealed_payload).pack()
    message = cookies.append_macs(body, SERVER.public)
    assert refusal_of(lambda: noise.consume_initiation(SERVER, message)) is Refusal.BAD_STATIC


# The response


def test_a_response_to_another_initiation_is_refused_by_its_index() -> None:
    done = shake_hands()
    _, state = noise.initiate(CLIENT, SERVER.public)
    reason = refusal_of(lambda: noise.consume_response(CLIENT, state, done.response))
    assert reason is Refusal.UNKNOWN_INDEX


def test_a_response_to_another_initiation_of_the_same_index_does_not_open() -> None:
    old, _ = noise.initiate(CLIENT, SERVER.public, local_index=7)
    response, _ = noise.respond(noise.consume_initiation(SERVER, old))
    _, state = noise.initiate(CLIENT, SERVER.public, local_index=7)
    reason = refusal_of(lambda: noise.consume_response(CLIENT, state, response))
    assert reason is Refusal.BAD_PSK_OR_KEY


def test_a_response_by_another_peer_does_not_open() -> None:
    message, state = noise.initiate(CLIENT, SERVER.public)
    # The forger saw the initiation, but cannot read what the responder read from it.
    consumed = noise.consume_initiation(SERVER, message)
    guessed = structs.replace(consumed, symmetric=consumed.symmetric.mix_key(bytes(32)))
    forged, _ = noise.respond(guessed)
    reason = refusal_of(lambda: noise.consume_response(CLIENT, state, forged))
    assert reason is Refusal.BAD_PSK_OR_KEY


@pytest.mark.parametrize(
    ("theirs", "ours"), [(PSK, bytes(32)), (bytes(32), PSK), (PSK, CLIENT.public)]
)
def test_another_preshared_key_is_refused(theirs: bytes, ours: bytes) -> None:
    message, state = noise.initiate(CLIENT, SERVER.public)
    response, _ = noise.respond(noise.consume_initiation(SERVER, message), theirs)
    reason = refusal_of(lambda: noise.consume_response(CLIENT, state, response, ours))
    assert reason is Refusal.BAD_PSK_OR_KEY


def test_a_response_for_another_peer_is_refused_by_its_mac1() -> None:
    message, state = noise.initiate(CLIENT, SERVER.public)
    response, _ = noise.respond(noise.consume_initiation(SERVER, message))
    other = with_right_macs(response, STRANGER.public)
    reason = refusal_of(lambda: noise.consume_response(CLIENT, state, other))
    assert reason is Refusal.BAD_MAC1


@pytest.mark.parametrize("length", [0, 31, 91, 93])
def test_a_response_of_another_length_is_refused(length: int) -> None:
    done = shake_hands()
    _, state = noise.initiate(CLIENT, SERVER.public)
    cut = (done.response + b"\0")[:length]
    reason = refusal_of(lambda: noise.consume_response(CLIENT, state, cut))
    assert reason is Refusal.BAD_LENGTH


def test_a_forged_response_does_not_spoil_the_right_one() -> None:
    message, state = noise.initiate(CLIENT, SERVER.public)
    response, server = noise.respond(noise.consume_initiation(SERVER, message))
    forged = with_right_macs(flip_bit(response, 8 * 50), CLIENT.public)
    assert refusal_of(lambda: noise.consume_response(CLIENT, state, forged))
    assert noise.consume_response(CLIENT, state, response).send == server.receive


# Every bit


def test_any_flipped_bit_in_an_initiation_is_refused() -> None:
    """All but mac2's, which only a responder under load looks at: see test_cookies.py."""
    message, _ = noise.initiate(CLIENT, SERVER.public)
    for bit in range(8 * (len(message) - 16)):
        changed = flip_bit(message, bit)
        reason = refusal_of(lambda changed=changed: noise.consume_initiation(SERVER, changed))
        expected = Refusal.BAD_MAC1 if bit >= 32 else reason
        assert reason is expected, bit
        assert reason in (Refusal.BAD_MAC1, Refusal.BAD_TYPE, Refusal.BAD_LENGTH), bit


def test_any_flipped_bit_in_an_initiation_with_its_mac1_made_right_is_refused() -> None:
    """All but the sender index's, which is not part of what is authenticated, as in WireGuard."""
    message, _ = noise.initiate(CLIENT, SERVER.public)
    expected = {range(8, 88): Refusal.BAD_STATIC, range(88, 116): Refusal.BAD_TIMESTAMP}
    for part, reason in expected.items():
        for bit in range(8 * part.start, 8 * part.stop):
            changed = with_right_macs(flip_bit(message, bit), SERVER.public)
            assert (
                refusal_of(lambda changed=changed: noise.consume_initiation(SERVER, changed))
                is reason
            ), bit


def test_any_flipped_bit_in_a_response_is_refused() -> None:
    message, state = noise.initiate(CLIENT, SERVER.public)
    response, _ = noise.respond(noise.consume_initiation(SERVER, message))
    for bit in range(8 * (len(response) - 16)):
        changed = flip_bit(response, bit)
        reason = refusal_of(lambda changed=changed: noise.consume_response(CLIENT, state, changed))
        assert reason in (Refusal.BAD_MAC1, Refusal.BAD_TYPE, Refusal.BAD_LENGTH), bit
        assert bit < 32 or reason is Refusal.BAD_MAC1, bit


def test_any_flipped_bit_in_a_response_with_its_mac1_made_right_is_refused() -> None:
    """All but the sender index's, as above."""
    message, state = noise.initiate(CLIENT, SERVER.public)
    response, _ = noise.respond(noise.consume_initiation(SERVER, message))
    for bit in range(8 * 8, 8 * (len(response) - MACS_BYTES)):
        changed = with_right_macs(flip_bit(response, bit), CLIENT.public)
        expected = Refusal.UNKNOWN_INDEX if bit < 8 * 12 else Refusal.BAD_PSK_OR_KEY
        reason = refusal_of(lambda changed=changed: noise.consume_response(CLIENT, state, changed))
        assert reason is expected, bit


@pytest.mark.parametrize("aead", Aead)
def test_any_flipped_bit_in_the_first_data_message_is_refused(aead: Aead) -> None:
    done = shake_hands(PSK)
    message = seal_data(done.client.send, done.client.remote_index, 0, b"hello", aead)
    assert open_data(done.server.receive, done.server.local_index, message) == (0, b"hello")
    for bit in range(8 * len(message)):
        changed = flip_bit(message, bit)
        reason = refusal_of(
            lambda changed=changed: open_data(done.server.receive, done.server.local_index, changed)
        )
        if bit >= 64:
            # A counter's highest bits alone make it too large only where all are set.
            assert reason is Refusal.BAD_TAG, bit
        elif bit >= 32:
            assert reason is Refusal.UNKNOWN_INDEX, bit
