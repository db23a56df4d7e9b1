"""mac1, mac2 and cookies: what a peer under load asks of us, and what proves that we were asked."""

from __future__ import annotations

import hashlib

import pytest

from fastun.session import cookies, noise
from fastun.session.cookies import CookieJar
from fastun.session.refusal import Refusal
from tests.support.parties import (
    CLIENT,
    SERVER,
    STRANGER,
    cookie_reply,
    flip_bit,
    refusal_of,
    shake_hands,
    with_right_macs,
)

COOKIE = bytes(range(16))


def initiation(cookie: bytes | None = None) -> bytes:
    return noise.initiate(CLIENT, SERVER.public, cookie=cookie)[0]


def jar_with_cookie(now_s: float = 0.0) -> CookieJar:
    jar = CookieJar(SERVER.public)
    jar.remember_sent(message := initiation())
    jar.consume_reply(cookie_reply(message, SERVER.public, COOKIE), now_s)
    return jar


def test_mac1_is_keyed_blake2s_over_all_before_it() -> None:
    message = initiation()
    key = hashlib.blake2s(b"mac1----" + SERVER.public).digest()
    assert message[116:132] == hashlib.blake2s(message[:116], key=key, digest_size=16).digest()
    assert cookies.has_valid_mac1(message, SERVER.public)
    assert not cookies.has_valid_mac1(message, STRANGER.public)


def test_mac2_is_keyed_by_the_cookie_over_all_before_it() -> None:
    message = initiation(COOKIE)
    assert message[132:] == hashlib.blake2s(message[:132], key=COOKIE, digest_size=16).digest()
    assert cookies.has_valid_mac1(message, SERVER.public)


def test_a_response_carries_the_cookie_of_the_peer_that_asked_for_it() -> None:
    response, _ = noise.respond(noise.consume_initiation(SERVER, initiation()), cookie=COOKIE)
    assert response[76:] == hashlib.blake2s(response[:76], key=COOKIE, digest_size=16).digest()


@pytest.mark.parametrize("is_flipped", [False, True])
def test_any_flipped_bit_of_what_mac1_covers_or_of_mac1_is_noticed(is_flipped: bool) -> None:
    message = initiation()
    for bit in range(8 * 132):
        changed = flip_bit(message, bit) if is_flipped else message
        assert cookies.has_valid_mac1(changed, SERVER.public) is not is_flipped


def test_a_cookie_that_was_asked_for_is_kept() -> None:
    assert jar_with_cookie().current(1.0) == COOKIE


def test_a_peer_forgets_its_cookie_after_120_s() -> None:
    jar = jar_with_cookie(1000.0)
    assert jar.current(1119.9) == COOKIE
    assert jar.current(1120.0) is None
    assert CookieJar(SERVER.public).current(0.0) is None


def test_a_cookie_reply_answers_a_response_as_well() -> None:
    done = shake_hands()
    jar = CookieJar(CLIENT.public)
    jar.remember_sent(done.response)
    jar.consume_reply(cookie_reply(done.response, CLIENT.public, COOKIE), 0.0)
    assert jar.current(0.0) == COOKIE


def test_any_flipped_bit_in_a_cookie_reply_is_refused() -> None:
    """All but the receiver index's, by which the caller finds the jar."""
    message = initiation()
    reply = cookie_reply(message, SERVER.public, COOKIE)
    jar = CookieJar(SERVER.public)
    jar.remember_sent(message)
    for bit in (*range(32), *range(64, 8 * 64)):
        changed = flip_bit(reply, bit)
        reason = refusal_of(lambda changed=changed: jar.consume_reply(changed, 0.0))
        assert reason in (Refusal.BAD_COOKIE, Refusal.BAD_TYPE, Refusal.BAD_LENGTH)
        assert jar.current(0.0) is None
    jar.consume_reply(reply, 0.0)


def test_a_cookie_reply_that_nothing_asked_for_is_refused() -> None:
    message = initiation()
    reply = cookie_reply(message, SERVER.public, COOKIE)
    jar = CookieJar(SERVER.public)
    assert refusal_of(lambda: jar.consume_reply(reply, 0.0)) is Refusal.BAD_COOKIE
    jar.remember_sent(initiation())  # another one
    assert refusal_of(lambda: jar.consume_reply(reply, 0.0)) is Refusal.BAD_COOKIE
    jar.remember_sent(message)
    jar.consume_reply(reply, 0.0)
    assert refusal_of(lambda: jar.consume_reply(reply, 1.0)) is Refusal.BAD_COOKIE


def test_a_forged_cookie_reply_keeps_the_cookie_that_is_there() -> None:
    jar = jar_with_cookie()
    jar.remember_sent(message := initiation())
    forged = cookie_reply(with_right_macs(message, STRANGER.public), STRANGER.public, bytes(16))
    assert refusal_of(lambda: jar.consume_reply(forged, 1.0)) is Refusal.BAD_COOKIE
    assert jar.current(1.0) == COOKIE
    assert repr(COOKIE) not in repr(jar)
