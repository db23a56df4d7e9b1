"""The messages' layouts, byte by byte."""

from __future__ import annotations

import pytest

from fastun import native
from fastun.session import messages
from fastun.session.messages import CookieReply, Data, Initiation, MessageType, Response
from fastun.session.refusal import Refusal
from tests.support.parties import refusal_of

INITIATION = Initiation(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28)
RESPONSE = Response(0x01020304, 0x05060708, b"e" * 32, b"n" * 16)
COOKIE_REPLY = CookieReply(0x01020304, b"n" * 24, b"c" * 32)
DATA = Data(MessageType.DATA, 0x01020304, 0x05060708090A0B0C, b"c" * 16)
MACS = b"1" * 16 + b"2" * 16

WIRE = {
    MessageType.INITIATION: INITIATION.pack() + MACS,
    MessageType.RESPONSE: RESPONSE.pack() + MACS,
    MessageType.COOKIE_REPLY: COOKIE_REPLY.pack(),
    MessageType.DATA: DATA.pack(),
    MessageType.DATA_AES: Data(MessageType.DATA_AES, 1, 2, b"c" * 16).pack(),
}


def test_each_field_is_where_the_whitepaper_has_it() -> None:
    assert INITIATION.pack() == (b"\1\0\0\0" + b"\4\3\2\1" + b"e" * 32 + b"s" * 48 + b"t" * 28)
    assert RESPONSE.pack() == (b"\2\0\0\0" + b"\4\3\2\1" + b"\x08\7\6\5" + b"e" * 32 + b"n" * 16)
    assert COOKIE_REPLY.pack() == b"\3\0\0\0" + b"\4\3\2\1" + b"n" * 24 + b"c" * 32
    assert DATA.pack() == (b"\4\0\0\0" + b"\4\3\2\1" + b"\x0c\x0b\x0a\x09\x08\7\6\5" + b"c" * 16)
    assert WIRE[MessageType.DATA_AES][:4] == b"\5\0\0\0"


def test_what_is_packed_is_unpacked() -> None:
    assert Initiation.unpack(WIRE[MessageType.INITIATION]) == INITIATION
    assert Response.unpack(WIRE[MessageType.RESPONSE]) == RESPONSE
    assert CookieReply.unpack(WIRE[MessageType.COOKIE_REPLY]) == COOKIE_REPLY
    assert Data.unpack(WIRE[MessageType.DATA]) == DATA


def test_the_sizes_are_the_protocols() -> None:
    assert {kind: len(message) for kind, message in WIRE.items()} == {
        MessageType.INITIATION: 148,
        MessageType.RESPONSE: 92,
        MessageType.COOKIE_REPLY: 64,
        MessageType.DATA: 32,
        MessageType.DATA_AES: 32,
    }


@pytest.mark.parametrize("kind", WIRE)
def test_a_message_of_its_size_is_recognised_by_its_type(kind: MessageType) -> None:
    assert messages.type_of(WIRE[kind]) is kind


@pytest.mark.parametrize("kind", WIRE)
def test_every_shorter_message_is_refused(kind: MessageType) -> None:
    for length in range(len(WIRE[kind])):
        cut = WIRE[kind][:length]
        assert refusal_of(lambda cut=cut: messages.type_of(cut)) is Refusal.BAD_LENGTH


@pytest.mark.parametrize(
    "kind", [MessageType.INITIATION, MessageType.RESPONSE, MessageType.COOKIE_REPLY]
)
def test_a_longer_handshake_message_is_refused(kind: MessageType) -> None:
    for more in (1, 16, 1000):
        longer = WIRE[kind] + bytes(more)
        assert refusal_of(lambda longer=longer: messages.type_of(longer)) is Refusal.BAD_LENGTH


@pytest.mark.parametrize("number", [0, 6, 0x100, 0x101, 0x1000001, 0x04000000, 0xFFFFFFFF])
def test_an_unknown_type_or_a_reserved_byte_that_is_not_zero_is_refused(number: int) -> None:
    for message in WIRE.values():
        changed = number.to_bytes(4, "little") + message[4:]
        assert refusal_of(lambda changed=changed: messages.type_of(changed)) is Refusal.BAD_TYPE


@pytest.mark.parametrize(
    ("unpack", "kinds"),
    [
        (Initiation.unpack, {MessageType.INITIATION}),
        (Response.unpack, {MessageType.RESPONSE}),
        (CookieReply.unpack, {MessageType.COOKIE_REPLY}),
        (Data.unpack, {MessageType.DATA, MessageType.DATA_AES}),
        (messages.receiver_of, set(MessageType) - {MessageType.INITIATION}),
    ],
)
def test_a_message_of_another_type_is_refused(unpack, kinds) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    for kind, message in WIRE.items():
        if kind in kinds:
            unpack(message)
        else:
            assert refusal_of(lambda message=message: unpack(message)) is Refusal.BAD_TYPE


def test_indices_are_found_without_unpacking() -> None:
    assert messages.receiver_of(WIRE[MessageType.RESPONSE]) == 0x05060708
    assert messages.receiver_of(WIRE[MessageType.COOKIE_REPLY]) == 0x01020304
    assert messages.receiver_of(WIRE[MessageType.DATA]) == 0x01020304


def test_the_layouts_have_the_sizes_that_c_expects() -> None:
    assert len(WIRE[MessageType.INITIATION]) == native.INITIATION_BYTES
    assert len(WIRE[MessageType.RESPONSE]) == native.RESPONSE_BYTES
    assert len(WIRE[MessageType.COOKIE_REPLY]) == native.COOKIE_REPLY_BYTES
    assert len(WIRE[MessageType.DATA]) == native.DATA_BYTES_MIN
