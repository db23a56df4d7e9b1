"""The macs at the end of messages 1 and 2, and the cookies of a responder under load.

    mac1 = Mac(Hash("mac1----" || receiver's public key), message up to mac1)     section 5.4.4
    mac2 = Mac(cookie, message up to mac2), or zeros without a cookie
    cookie = Mac(secret of 120 s, source address || source port)                  section 5.4.7
    cookie reply: nonce, Xaead(Hash("cookie--" || responder's public key), nonce, cookie, mac1)

mac1 proves that the sender knows whom it talks to, before any costly DH. Under load mac2 proves
that the sender receives at the address it sends from, so that a limit per address means something.
Neither authenticates: that is the handshake's. What the macs are compared with is compared in
constant time.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from fastun.session import primitives
from fastun.session.limiter import SourceLimiter
from fastun.session.messages import MACS_BYTES, CookieReply, sender_of
from fastun.session.protocol import (
    COOKIE_BYTES,
    COOKIE_LIFETIME_S,
    COOKIE_NONCE_BYTES,
    HASH_BYTES,
    LABEL_COOKIE,
    LABEL_MAC1,
    MAC_BYTES,
)
from fastun.session.refusal import HandshakeError, Refusal

Address = IPv4Address | IPv6Address

_NO_COOKIE: Final = bytes(MAC_BYTES)


def append_macs(body: bytes, receiver_public: bytes, cookie: bytes | None = None) -> bytes:
    """Return message 1 or 2 complete: `body`, mac1, mac2."""
    with_mac1 = body + primitives.mac(mac1_key(receiver_public), body)
    return with_mac1 + (_NO_COOKIE if cookie is None else primitives.mac(cookie, with_mac1))


def has_valid_mac1(message: bytes, own_public: bytes) -> bool:
    """Whether message 1 or 2, complete, was made for the holder of `own_public`."""
    expected = primitives.mac(mac1_key(own_public), message[:-MACS_BYTES])
    return hmac.compare_digest(_mac1_of(message), expected)


def mac1_key(receiver_public: bytes) -> bytes:
    """Return what mac1 of messages to the holder of `receiver_public` is keyed by."""
    return primitives.blake2s(LABEL_MAC1 + receiver_public)


def _mac1_of(message: bytes) -> bytes:
    return message[-MACS_BYTES:-MAC_BYTES]


def _cookie_key(responder_public: bytes) -> bytes:
    return primitives.blake2s(LABEL_COOKIE + responder_public)


class CookieChecker:
    """The responder's side: who may cost a handshake. One for each gateway, not thread-safe."""

    def __init__(self, own_public: bytes, limiter: SourceLimiter) -> None:
        """Answer for `own_public`."""
        self._own_public = own_public
        self._limiter = limiter
        self._secret = b""
        self._secret_made_s = float("-inf")

    def check(
        self, message: bytes, address: Address, port: int, now_s: float, *, under_load: bool
    ) -> None:
        """Pass message 1 or 2 on to the handshake by returning.

        HandshakeError BAD_MAC1; under load BAD_MAC2, to be answered by `reply`, or RATE_LIMITED.
        """
        if not has_valid_mac1(message, self._own_public):
            raise HandshakeError(Refusal.BAD_MAC1)
        if not under_load:
            return
        expected = primitives.mac(self._cookie(address, port, now_s), message[:-MAC_BYTES])
        if not hmac.compare_digest(message[-MAC_BYTES:], expected):
            raise HandshakeError(Refusal.BAD_MAC2)
        if not self._limiter.admit(address, now_s):
            raise HandshakeError(Refusal.RATE_LIMITED)

    def reply(self, message: bytes, address: Address, port: int, now_s: float) -> bytes:
        """Return the cookie reply, 64 bytes, to message 1 or 2 whose mac1 is valid.

        It is smaller than what it answers, and tells nothing to who cannot read the mac1.
        """
        nonce = secrets.token_bytes(COOKIE_NONCE_BYTES)
        sealed = primitives.xseal(
            _cookie_key(self._own_public),
            nonce,
            self._cookie(address, port, now_s),
            _mac1_of(message),
        )
        return CookieReply(sender_of(message), nonce, sealed).pack()

    def _cookie(self, address: Address, port: int, now_s: float) -> bytes:
        if now_s - self._secret_made_s >= COOKIE_LIFETIME_S:
            self._secret = secrets.token_bytes(HASH_BYTES)
            self._secret_made_s = now_s
        return primitives.mac(self._secret, address.packed + port.to_bytes(2, "big"))


@dataclass(slots=True)
class CookieJar:
    """The initiator's side: the last cookie of one peer. Sessions and keys stay untouched by it."""

    peer_public: bytes
    _asked_with: bytes | None = field(default=None, repr=False)
    _cookie: bytes = field(default=bytes(COOKIE_BYTES), repr=False)
    _received_s: float = float("-inf")

    def remember_sent(self, message: bytes) -> None:
        """Take note of a complete message 1 or 2 that goes out: a reply is bound to its mac1."""
        self._asked_with = _mac1_of(message)

    def consume_reply(self, message: bytes, now_s: float) -> None:
        """Keep the cookie for the next message, which is sent when its timer says, not now.

        The caller has looked the receiver index up. HandshakeError BAD_LENGTH, BAD_TYPE or
        BAD_COOKIE.
        """
        reply = CookieReply.unpack(message)
        if self._asked_with is None:
            raise HandshakeError(Refusal.BAD_COOKIE)
        try:
            self._cookie = primitives.xopen(
                _cookie_key(self.peer_public), reply.nonce, reply.sealed_cookie, self._asked_with
            )
        except primitives.NotAuthenticError:
            raise HandshakeError(Refusal.BAD_COOKIE) from None
        self._asked_with = None
        self._received_s = now_s

    def current(self, now_s: float) -> bytes | None:
        """Return the cookie for mac2, or None when there is none as young as 120 s."""
        return self._cookie if now_s - self._received_s < COOKIE_LIFETIME_S else None
