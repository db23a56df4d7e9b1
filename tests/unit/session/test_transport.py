"""Data messages as the gateway seals and opens them, and padding."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from fastun.native.secrets import Secret
from fastun.session.protocol import REJECT_AFTER_MESSAGES
from fastun.session.refusal import Refusal
from fastun.session.transport import (
    Aead,
    SessionKeys,
    of_lane,
    open_data,
    pad,
    seal_data,
    trim,
)
from tests.support.parties import refusal_of

KEY_BYTES = bytes(range(32))
KEY, OTHER_KEY = Secret.of(KEY_BYTES), Secret.of(KEY_BYTES[::-1])
AES_KEY = HKDFExpand(hashes.BLAKE2s(32), 32, info=b"fastun v1 aes-256-gcm").derive(KEY_BYTES)
LANE_1 = "e207335b30b6ebfec969f33bc069b8b5857e6ced5edac87100cd43bcb66cb9f9"
IPV4 = bytes.fromhex("45000015") + bytes(16) + b"x"  # 21 bytes
IPV6 = bytes.fromhex("60000000000111ff") + bytes(32) + b"x"  # 41 bytes


@pytest.mark.parametrize("counter", [0, 1, 2**32, REJECT_AFTER_MESSAGES - 1])
@pytest.mark.parametrize("aead", Aead)
def test_what_is_sealed_opens(aead: Aead, counter: int) -> None:
    message = seal_data(KEY, 9, counter, b"text", aead)
    assert len(message) == 16 + 4 + 16
    assert open_data(KEY, 9, message) == (counter, b"text")


def test_a_keepalive_is_32_bytes() -> None:
    assert len(seal_data(KEY, 9, 0, b"")) == 32


def test_type_4_is_chacha20_poly1305_under_the_directional_key_without_associated_data() -> None:
    nonce = bytes(4) + (5).to_bytes(8, "little")
    sealed = ChaCha20Poly1305(KEY_BYTES).encrypt(nonce, b"text", None)
    assert seal_data(KEY, 9, 5, b"text") == (
        b"\4\0\0\0\x09\0\0\0" + (5).to_bytes(8, "little") + sealed
    )


def test_type_5_is_aes_256_gcm_under_the_derived_key_in_the_same_layout() -> None:
    nonce = bytes(4) + (5).to_bytes(8, "little")
    sealed = AESGCM(AES_KEY).encrypt(nonce, b"text", None)
    assert seal_data(KEY, 9, 5, b"text", Aead.AES_256_GCM) == (
        b"\5\0\0\0\x09\0\0\0" + (5).to_bytes(8, "little") + sealed
    )


@pytest.mark.parametrize("aead", Aead)
def test_another_key_index_or_direction_does_not_open(aead: Aead) -> None:
    message = seal_data(KEY, 9, 0, b"text", aead)
    assert refusal_of(lambda: open_data(OTHER_KEY, 9, message)) is Refusal.BAD_TAG
    assert refusal_of(lambda: open_data(KEY, 8, message)) is Refusal.UNKNOWN_INDEX


@pytest.mark.parametrize("counter", [REJECT_AFTER_MESSAGES, REJECT_AFTER_MESSAGES + 1, 2**64 - 1])
@pytest.mark.parametrize("kind", [4, 5])
def test_a_key_that_is_used_up_neither_seals_nor_opens(kind: int, counter: int) -> None:
    assert REJECT_AFTER_MESSAGES == 2**64 - 2**13 - 1
    aead = {4: Aead.CHACHA20_POLY1305, 5: Aead.AES_256_GCM}[kind]
    assert refusal_of(lambda: seal_data(KEY, 9, counter, b"", aead)) is Refusal.COUNTER_LIMIT
    header = bytes([kind, 0, 0, 0, 9, 0, 0, 0]) + counter.to_bytes(8, "little")
    nonce = bytes(4) + counter.to_bytes(8, "little")
    library = AESGCM(AES_KEY) if kind == 5 else ChaCha20Poly1305(KEY_BYTES)
    message = header + library.encrypt(nonce, b"", None)
    assert refusal_of(lambda: open_data(KEY, 9, message)) is Refusal.COUNTER_LIMIT


def test_a_message_without_a_tag_is_refused_by_its_length() -> None:
    message = seal_data(KEY, 9, 0, b"")
    assert refusal_of(lambda: open_data(KEY, 9, message[:-1])) is Refusal.BAD_LENGTH


def test_padding_goes_up_to_a_multiple_of_16_with_zeros() -> None:
    for length in range(50):
        packet = b"p" * length
        padded = pad(packet)
        assert len(padded) % 16 == 0
        assert 0 <= len(padded) - length < 16
        assert padded == packet + bytes(len(padded) - length)


@pytest.mark.parametrize("packet", [IPV4, IPV6], ids=["ipv4", "ipv6"])
def test_a_packet_comes_out_of_its_padding_and_needs_none(packet: bytes) -> None:
    assert trim(pad(packet)) == packet
    assert trim(packet) == packet
    assert trim(packet + b"rubbish") == packet


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"\x45",
        b"\x60",
        b"\x01\0\0\0" + bytes(60),  # a fastun type
        b"\x55" + IPV4[1:],
        IPV4[:-1],  # shorter than it says
        IPV6[:-1],
        IPV4[:19],
        IPV6[:39],
        b"\x45\0\0\x13" + IPV4[4:],  # says less than its header
    ],
)
def test_what_is_not_an_ip_packet_is_none(malformed: bytes) -> None:
    assert trim(malformed) is None


# -- lanes ------------------------------------------------------------------------------------


def lane_key(number: int) -> bytes:
    info = b"fastun v1 lane" + bytes([number])
    return HKDFExpand(hashes.BLAKE2s(32), 32, info=info).derive(KEY_BYTES)


@pytest.mark.parametrize("number", [1, 2, 15])
def test_a_lane_has_a_directional_key_of_its_own(number: int) -> None:
    assert KEY.of_lane(number) == Secret.of(lane_key(number))


def test_the_key_of_a_lane_is_this_one() -> None:
    """A vector: label and number by RFC 5869, over the key 00 01 .. 1f."""
    assert lane_key(1).hex() == LANE_1


def test_keys_of_lanes_directions_and_ciphers_are_different() -> None:
    keys = {lane_key(number) for number in range(1, 16)} | {KEY_BYTES, AES_KEY}
    assert len(keys) == 17
    session = SessionKeys(KEY, OTHER_KEY, 1, 2, is_initiator=True, created_s=5.0)
    made = of_lane(session, 3, (7, 8))
    assert (made.local_index, made.remote_index, made.created_s) == (7, 8, 5.0)
    assert made.send == KEY.of_lane(3)
    assert made.receive == OTHER_KEY.of_lane(3)
    message = seal_data(made.send, 8, 0, b"text")
    assert refusal_of(lambda: open_data(KEY, 8, message)) is Refusal.BAD_TAG
