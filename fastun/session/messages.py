"""The messages' layouts (whitepaper section 5.4), read and written; nothing is checked but shape.

    1 initiation    type u32 | sender u32 | ephemeral 32 | static 48 | timestamp 28 | mac1 | mac2
    2 response      type u32 | sender u32 | receiver u32 | ephemeral 32 | empty 16 | mac1 | mac2
    3 cookie reply  type u32 | receiver u32 | nonce 24 | cookie 32
    4 data          type u32 | receiver u32 | counter u64 | ciphertext, at least its 16-byte tag
    5 data, sealed by AES-256-GCM (ours); else as 4

All integers are little-endian; mac1 and mac2 are 16 bytes. The type is one byte and three reserved
zero bytes, taken as one u32. Types 1 to 3 have exactly their size: 148, 92 and 64 bytes.
"""

import struct
from typing import Final, Self

import msgspec

from fastun.native import (
    COOKIE_REPLY_BYTES,
    DATA_BYTES_MIN,
    DATA_HEADER_BYTES,
    INITIATION_BYTES,
    RESPONSE_BYTES,
    MessageType,
)
from fastun.session.protocol import MAC_BYTES
from fastun.session.refusal import HandshakeError, Refusal

__all__ = [
    "COOKIE_REPLY_BYTES",
    "DATA_BYTES_MIN",
    "DATA_HEADER_BYTES",
    "INITIATION_BYTES",
    "MACS_BYTES",
    "RESPONSE_BYTES",
    "CookieReply",
    "Data",
    "Initiation",
    "MessageType",
    "Response",
    "type_of",
]

_TYPE = struct.Struct("<I")
_INITIATION = struct.Struct("<II32s48s28s")
_RESPONSE = struct.Struct("<III32s16s")
_COOKIE_REPLY = struct.Struct("<II24s32s")
_DATA = struct.Struct("<IIQ")

MACS_BYTES: Final = 2 * MAC_BYTES

_EXACT_BYTES = {
    MessageType.INITIATION: INITIATION_BYTES,
    MessageType.RESPONSE: RESPONSE_BYTES,
    MessageType.COOKIE_REPLY: COOKIE_REPLY_BYTES,
}


def type_of(message: bytes) -> MessageType:
    """Return the type of a message that has the size of its type.

    HandshakeError BAD_TYPE or BAD_LENGTH.
    """
    if len(message) < _TYPE.size:
        raise HandshakeError(Refusal.BAD_LENGTH)
    (number,) = _TYPE.unpack_from(message)
    try:
        kind = MessageType(number)
    except ValueError:
        raise HandshakeError(Refusal.BAD_TYPE) from None
    exact = _EXACT_BYTES.get(kind)
    if len(message) < DATA_BYTES_MIN or (exact is not None and len(message) != exact):
        raise HandshakeError(Refusal.BAD_LENGTH)
    return kind


def _expect(message: bytes, kind: MessageType) -> None:
    if type_of(message) is not kind:
        raise HandshakeError(Refusal.BAD_TYPE)


class Initiation(msgspec.Struct, frozen=True):
    """Message 1 without its macs, which are cookies.py's."""

    sender: int
    ephemeral: bytes
    sealed_static: bytes
    sealed_timestamp: bytes

    def pack(self) -> bytes:
        """Return the first 116 bytes; mac1 and mac2 follow them."""
        return _INITIATION.pack(
            MessageType.INITIATION,
            self.sender,
            self.ephemeral,
            self.sealed_static,
            self.sealed_timestamp,
        )

    @classmethod
    def unpack(cls, message: bytes) -> Self:
        """Take 148 bytes apart; HandshakeError BAD_TYPE or BAD_LENGTH."""
        _expect(message, MessageType.INITIATION)
        _, *fields = _INITIATION.unpack_from(message)
        return cls(*fields)


class Response(msgspec.Struct, frozen=True):
    """Message 2 without its macs."""

    sender: int
    receiver: int
    ephemeral: bytes
    sealed_empty: bytes

    def pack(self) -> bytes:
        """Return the first 60 bytes; mac1 and mac2 follow them."""
        return _RESPONSE.pack(
            MessageType.RESPONSE, self.sender, self.receiver, self.ephemeral, self.sealed_empty
        )

    @classmethod
    def unpack(cls, message: bytes) -> Self:
        """Take 92 bytes apart; HandshakeError BAD_TYPE or BAD_LENGTH."""
        _expect(message, MessageType.RESPONSE)
        _, *fields = _RESPONSE.unpack_from(message)
        return cls(*fields)


class CookieReply(msgspec.Struct, frozen=True):
    """Message 3."""

    receiver: int
    nonce: bytes
    sealed_cookie: bytes

    def pack(self) -> bytes:
        """Return the 64 bytes."""
        return _COOKIE_REPLY.pack(
            MessageType.COOKIE_REPLY, self.receiver, self.nonce, self.sealed_cookie
        )

    @classmethod
    def unpack(cls, message: bytes) -> Self:
        """Take 64 bytes apart; HandshakeError BAD_TYPE or BAD_LENGTH."""
        _expect(message, MessageType.COOKIE_REPLY)
        _, *fields = _COOKIE_REPLY.unpack_from(message)
        return cls(*fields)


class Data(msgspec.Struct, frozen=True):
    """Message 4 or 5."""

    kind: MessageType
    receiver: int
    counter: int
    ciphertext: bytes

    def pack(self) -> bytes:
        """Return 16 bytes of header and the ciphertext."""
        return _DATA.pack(self.kind, self.receiver, self.counter) + self.ciphertext

    @classmethod
    def unpack(cls, message: bytes) -> Self:
        """Take at least 32 bytes apart; HandshakeError BAD_TYPE or BAD_LENGTH."""
        kind = type_of(message)
        if kind not in (MessageType.DATA, MessageType.DATA_AES):
            raise HandshakeError(Refusal.BAD_TYPE)
        _, receiver, counter = _DATA.unpack_from(message)
        return cls(kind, receiver, counter, message[DATA_HEADER_BYTES:])


def receiver_of(message: bytes) -> int:
    """Return the receiver index of a response, cookie reply or data message.

    HandshakeError as `type_of`.
    """
    kind = type_of(message)
    if kind is MessageType.INITIATION:
        raise HandshakeError(Refusal.BAD_TYPE)
    receiver: int = _TYPE.unpack_from(message, 8 if kind is MessageType.RESPONSE else 4)[0]
    return receiver
