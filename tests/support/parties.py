"""What the session tests share: two parties with fixed keys, a handshake between them, vectors."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from fastun.session import cookies, keys, noise
from fastun.session.messages import MACS_BYTES, CookieReply
from fastun.session.protocol import MAC_BYTES, NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.session.transport import SessionKeys

VECTORS = Path(__file__).parent / "vectors"

CLIENT = keys.pair_of(bytes([0x11] * 32))
SERVER = keys.pair_of(bytes([0x22] * 32))
STRANGER = keys.pair_of(bytes([0x33] * 32))
PSK = bytes([0x44] * 32)

# The points of Curve25519 whose order divides 8, in their canonical spellings and two that are not.
LOW_ORDER_POINTS = [
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
]


@dataclass(frozen=True)
class Handshake:
    """A handshake that succeeded, with the messages that made it."""

    initiation: bytes
    response: bytes
    client: SessionKeys
    server: SessionKeys


def shake_hands(preshared_key: bytes = NO_PRESHARED_KEY) -> Handshake:
    initiation, state = noise.initiate(CLIENT, SERVER.public)
    consumed = noise.consume_initiation(SERVER, initiation)
    assert consumed.peer_public == CLIENT.public
    response, server = noise.respond(consumed, preshared_key)
    client = noise.consume_response(CLIENT, state, response, preshared_key)
    return Handshake(initiation, response, client, server)


def refusal_of(call: Callable[[], object]) -> Refusal:
    """Return why `call` is refused; a call that is not refused fails the test."""
    with pytest.raises(HandshakeError) as caught:
        call()
    return caught.value.reason


def with_right_macs(message: bytes, receiver_public: bytes) -> bytes:
    """Return a changed message as its forger would send it: mac1 needs no secret."""
    return cookies.append_macs(message[:-MACS_BYTES], receiver_public)


def cookie_reply(message: bytes, responder_public: bytes, cookie: bytes) -> bytes:
    """Return how a responder under load answers a message 1 or 2 (whitepaper 5.4.7)."""
    nonce, mac1 = os.urandom(24), message[-MACS_BYTES:][:MAC_BYTES]
    key = cookies.cookie_key(responder_public)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(cookie, mac1, nonce, key)
    return CookieReply(int.from_bytes(message[4:8], "little"), nonce, sealed).pack()


def flip_bit(message: bytes, bit: int) -> bytes:
    changed = bytearray(message)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def load_vectors(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="ascii"))
    assert document["source"]
    assert document["licence"]
    return document
