"""The macs at the end of messages 1 and 2, and the cookies that a responder under load asks for.

    mac1 = Mac(Hash("mac1----" || receiver's public key), message up to mac1)     section 5.4.4
    mac2 = Mac(cookie, message up to mac2), or zeros without a cookie
    cookie = Mac(secret of 120 s, source address || source port)                  section 5.4.7
    cookie reply: nonce, Xaead(Hash("cookie--" || responder's public key), nonce, cookie, mac1)

mac1 proves that the sender knows our public key, before any costly DH. Under load mac2 proves
that the sender receives at the address it sends from, so that a limit per address means something.
Neither authenticates: that is the handshake's. Cookies are made, and mac2 is checked, in C
(csrc/inbound/cookie.h, handshake_gate.h); here they are asked of us.
"""

import hmac
from dataclasses import dataclass, field
from typing import Final

from fastun.native.secrets import NotAuthenticError
from fastun.session import primitives
from fastun.session.messages import MACS_BYTES, CookieReply
from fastun.session.protocol import (
    COOKIE_BYTES,
    COOKIE_LIFETIME_S,
    LABEL_COOKIE,
    LABEL_MAC1,
    MAC_BYTES,
)
from fastun.session.refusal import HandshakeError, Refusal

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


def cookie_key(responder_public: bytes) -> bytes:
    """Return what the cookie replies of the holder of `responder_public` are sealed under."""
    return primitives.blake2s(LABEL_COOKIE + responder_public)


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
                cookie_key(self.peer_public), reply.nonce, reply.sealed_cookie, self._asked_with
            )
        except NotAuthenticError:
            raise HandshakeError(Refusal.BAD_COOKIE) from None
        self._asked_with = None
        self._received_s = now_s

    def current(self, now_s: float) -> bytes | None:
        """Return the cookie for mac2, or None when there is none as young as 120 s."""
        return self._cookie if now_s - self._received_s < COOKIE_LIFETIME_S else None
