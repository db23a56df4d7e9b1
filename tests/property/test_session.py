"""Sessions: what holds for any keys, any bytes and any order of messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.errors import ConfigError
from fastun.native import Aead
from fastun.native.secrets import Secret
from fastun.session import cookies, keys, messages, noise, tai64n, transport
from fastun.session.initiation_guard import InitiationGuard
from fastun.session.refusal import HandshakeError, Refusal

PRIVATE = st.binary(min_size=32, max_size=32)
INDEX = st.integers(0, 2**32 - 1)
SERVER = keys.pair_of(bytes([0x22] * 32))
CLIENT = keys.pair_of(bytes([0x11] * 32))


@given(PRIVATE, PRIVATE, PRIVATE, INDEX, INDEX)
def test_any_two_parties_derive_mirrored_keys(
    client_private: bytes, server_private: bytes, psk: bytes, client_index: int, server_index: int
) -> None:
    client, server = keys.pair_of(client_private), keys.pair_of(server_private)
    initiation, state = noise.initiate(client, server.public, local_index=client_index)
    consumed = noise.consume_initiation(server, initiation)
    response, server_keys = noise.respond(consumed, psk, local_index=server_index)
    client_keys = noise.consume_response(client, state, response, psk)
    assert consumed.peer_public == client.public
    assert (client_keys.send, client_keys.receive) == (server_keys.receive, server_keys.send)
    assert client_keys.remote_index == server_keys.local_index == server_index
    assert server_keys.remote_index == client_keys.local_index == client_index


@given(PRIVATE, PRIVATE)
def test_any_two_different_preshared_keys_are_refused(theirs: bytes, ours: bytes) -> None:
    initiation, state = noise.initiate(CLIENT, SERVER.public)
    response, _ = noise.respond(noise.consume_initiation(SERVER, initiation), theirs)
    if theirs == ours:
        noise.consume_response(CLIENT, state, response, ours)
        return
    with pytest.raises(HandshakeError) as caught:
        noise.consume_response(CLIENT, state, response, ours)
    assert caught.value.reason is Refusal.BAD_PSK_OR_KEY


def _with_size(size: int) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda kind, rest: bytes([kind, 0, 0, 0]) + rest,
        st.integers(1, 5),
        st.binary(min_size=size - 4, max_size=size - 4),
    )


ANY_MESSAGE = st.one_of(
    st.binary(max_size=200), *(_with_size(size) for size in (148, 92, 64, 32, 60))
)


@given(ANY_MESSAGE, st.booleans())
def test_any_bytes_are_refused_and_nothing_else_happens(message: bytes, has_mac1: bool) -> None:
    if has_mac1 and len(message) in (messages.INITIATION_BYTES, messages.RESPONSE_BYTES):
        receiver = SERVER if message[0] == 1 else CLIENT
        message = cookies.append_macs(message[: -messages.MACS_BYTES], receiver.public)
    _, state = noise.initiate(CLIENT, SERVER.public, local_index=7)
    with pytest.raises(HandshakeError):
        noise.consume_initiation(SERVER, message)
    with pytest.raises(HandshakeError):
        noise.consume_response(CLIENT, state, message)
    with pytest.raises(HandshakeError):
        transport.open_data(Secret.of(bytes(32)), 7, message)
    jar = cookies.CookieJar(SERVER.public)
    with pytest.raises(HandshakeError):
        jar.consume_reply(message, 0.0)


@given(PRIVATE, INDEX, st.integers(0, 2**64 - 1), st.binary(max_size=2000), st.sampled_from(Aead))
def test_data_opens_or_the_key_is_used_up(
    content: bytes, index: int, counter: int, plaintext: bytes, aead: Aead
) -> None:
    key = Secret.of(content)
    if counter >= 2**64 - 2**13 - 1:
        with pytest.raises(HandshakeError) as caught:
            transport.seal_data(key, index, counter, plaintext, aead)
        assert caught.value.reason is Refusal.COUNTER_LIMIT
        return
    message = transport.seal_data(key, index, counter, plaintext, aead)
    assert transport.open_data(key, index, message) == (counter, plaintext)
    assert messages.receiver_of(message) == index


@given(st.binary(min_size=40, max_size=40), st.binary(max_size=100), st.booleans())
def test_padding_comes_off_any_ip_packet(header: bytes, body: bytes, is_ipv6: bool) -> None:
    packet = bytearray(header + body)
    packet[0] = 0x60 if is_ipv6 else 0x45
    if is_ipv6:
        packet[4:6] = len(body).to_bytes(2, "big")
    else:
        packet[2:4] = len(packet).to_bytes(2, "big")
    assert transport.trim(transport.pad(bytes(packet))) == bytes(packet)


@given(st.binary(max_size=100))
def test_what_comes_off_is_a_beginning_of_what_was_there(padded: bytes) -> None:
    packet = transport.trim(padded)
    assert packet is None or padded.startswith(packet)


TIMES_NS = st.integers(0, 10**10).map(lambda ns: 1_700_000_000 * 10**9 + ns)


@given(st.lists(st.tuples(TIMES_NS, st.floats(0, 0.1)), max_size=30))
def test_the_guard_admits_an_ever_newer_sequence_20_ms_apart(
    initiations: list[tuple[int, float]],
) -> None:
    guard = InitiationGuard()
    admitted: list[tuple[int, float]] = []
    now_s = 0.0
    for unix_ns, pause_s in initiations:
        now_s += pause_s
        whitened = unix_ns - unix_ns % 10**9 % 2**24
        is_newer = all(whitened > earlier for earlier, _ in admitted)
        is_late_enough = all(now_s - earlier_s >= 0.02 for _, earlier_s in admitted)
        refusal = _refusal_by(guard, tai64n.from_unix_ns(unix_ns), now_s)
        if not is_newer:
            assert refusal is Refusal.REPLAYED_TIMESTAMP
        elif not is_late_enough:
            assert refusal is Refusal.TOO_SOON
        else:
            assert refusal is None
            admitted.append((whitened, now_s))


def _refusal_by(guard: InitiationGuard, timestamp: bytes, now_s: float) -> Refusal | None:
    try:
        guard.admit(timestamp, now_s)
    except HandshakeError as error:
        return error.reason
    return None


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=20))
def test_timestamps_sort_as_their_times_do(times_ns: list[int]) -> None:
    stamps = [tai64n.from_unix_ns(unix_ns) for unix_ns in sorted(times_ns)]
    assert stamps == sorted(stamps)


def complaint_about(text: str) -> str:
    try:
        assert keys.format_key(keys.parse_key(text, "field")) == text
    except ConfigError as error:
        return str(error)
    return ""


@given(st.one_of(st.text(), st.text("ABab01+/=", min_size=43, max_size=45), PRIVATE))
def test_any_text_is_a_key_or_one_line_of_complaint(text: str | bytes) -> None:
    if isinstance(text, bytes):
        assert keys.parse_key(keys.format_key(text), "field") == text
        return
    complaint = complaint_about(text)
    assert complaint == "" or complaint.startswith("field: ")
    # By chance the text may be a word that stands in every complaint.
    assert len(text) < 5 or text not in complaint or text in complaint_about("?")
