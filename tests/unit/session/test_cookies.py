"""mac1, mac2 and cookies: what a responder under load asks of whom."""

from __future__ import annotations

import hashlib
from ipaddress import ip_address

import pytest

from fastun.session import cookies, noise
from fastun.session.cookies import CookieChecker, CookieJar
from fastun.session.limiter import SourceLimiter
from fastun.session.messages import CookieReply
from fastun.session.refusal import Refusal
from tests.unit.session.parties import (
    CLIENT,
    SERVER,
    STRANGER,
    flip_bit,
    refusal_of,
    shake_hands,
    with_right_macs,
)

HOME, ELSEWHERE = ip_address("192.0.2.1"), ip_address("192.0.2.2")
PORT = 51820


def checker() -> CookieChecker:
    return CookieChecker(SERVER.public, SourceLimiter())


def initiation(cookie: bytes | None = None) -> bytes:
    return noise.initiate(CLIENT, SERVER.public, cookie=cookie)[0]


def jar_with_cookie(server: CookieChecker, now_s: float = 0.0) -> CookieJar:
    jar = CookieJar(SERVER.public)
    message = initiation()
    jar.remember_sent(message)
    jar.consume_reply(server.reply(message, HOME, PORT, now_s), now_s)
    return jar


def test_mac1_is_keyed_blake2s_over_all_before_it() -> None:
    message = initiation()
    key = hashlib.blake2s(b"mac1----" + SERVER.public).digest()
    assert message[116:132] == hashlib.blake2s(message[:116], key=key, digest_size=16).digest()
    assert cookies.has_valid_mac1(message, SERVER.public)
    assert not cookies.has_valid_mac1(message, STRANGER.public)


def test_mac2_is_keyed_by_the_cookie_over_all_before_it() -> None:
    cookie = bytes(range(16))
    message = initiation(cookie)
    assert message[132:] == hashlib.blake2s(message[:132], key=cookie, digest_size=16).digest()
    assert cookies.has_valid_mac1(message, SERVER.public)


def test_a_response_carries_the_cookie_of_who_asked_for_it() -> None:
    cookie = bytes(range(16))
    response, _ = noise.respond(noise.consume_initiation(SERVER, initiation()), cookie=cookie)
    assert response[76:] == hashlib.blake2s(response[:76], key=cookie, digest_size=16).digest()


def test_without_load_a_valid_mac1_is_enough() -> None:
    server = checker()
    for _ in range(100):
        server.check(initiation(), HOME, PORT, 0.0, under_load=False)


@pytest.mark.parametrize("under_load", [False, True])
def test_a_wrong_mac1_is_refused_before_anything_is_asked(under_load: bool) -> None:
    server = checker()
    message = initiation()
    for bit in range(8 * 132):
        changed = flip_bit(message, bit)
        reason = refusal_of(
            lambda changed=changed: server.check(changed, HOME, PORT, 0.0, under_load=under_load)
        )
        assert reason is Refusal.BAD_MAC1


def test_under_load_a_cookie_is_asked_for_and_its_bearer_passes() -> None:
    server = checker()
    message = initiation()
    reason = refusal_of(lambda: server.check(message, HOME, PORT, 0.0, under_load=True))
    assert reason is Refusal.BAD_MAC2
    jar = jar_with_cookie(server)
    server.check(initiation(jar.current(1.0)), HOME, PORT, 1.0, under_load=True)


def test_under_load_any_flipped_bit_of_mac2_is_refused() -> None:
    server = checker()
    message = initiation(jar_with_cookie(server).current(0.0))
    for bit in range(8 * 132, 8 * 148):
        changed = flip_bit(message, bit)
        reason = refusal_of(
            lambda changed=changed: server.check(changed, HOME, PORT, 0.0, under_load=True)
        )
        assert reason is Refusal.BAD_MAC2
    server.check(message, HOME, PORT, 0.0, under_load=True)


def test_a_cookie_is_good_only_where_it_was_sent_to() -> None:
    server = checker()
    message = initiation(jar_with_cookie(server).current(0.0))
    mapped = ip_address("2001:db8::1")
    for address, port in ((ELSEWHERE, PORT), (HOME, PORT + 1), (mapped, PORT)):
        reason = refusal_of(
            lambda address=address, port=port: server.check(
                message, address, port, 0.0, under_load=True
            )
        )
        assert reason is Refusal.BAD_MAC2


def test_a_cookie_of_another_gateway_is_refused() -> None:
    message = initiation(jar_with_cookie(checker()).current(0.0))
    other = checker()
    reason = refusal_of(lambda: other.check(message, HOME, PORT, 0.0, under_load=True))
    assert reason is Refusal.BAD_MAC2


def test_the_secret_changes_after_120_s_and_not_before() -> None:
    server = checker()
    message = initiation(jar_with_cookie(server, 1000.0).current(1000.0))
    server.check(message, HOME, PORT, 1119.9, under_load=True)
    reason = refusal_of(lambda: server.check(message, HOME, PORT, 1120.0, under_load=True))
    assert reason is Refusal.BAD_MAC2


def test_a_peer_forgets_its_cookie_after_120_s() -> None:
    jar = jar_with_cookie(checker(), 1000.0)
    assert jar.current(1000.0) is not None
    assert jar.current(1119.9) is not None
    assert jar.current(1120.0) is None
    assert CookieJar(SERVER.public).current(0.0) is None


def test_a_source_with_a_cookie_is_limited_and_others_are_not() -> None:
    server = checker()
    cookie = jar_with_cookie(server).current(0.0)
    message = initiation(cookie)
    for _ in range(5):
        server.check(message, HOME, PORT, 0.0, under_load=True)
    reason = refusal_of(lambda: server.check(message, HOME, PORT, 0.0, under_load=True))
    assert reason is Refusal.RATE_LIMITED
    jar, asked = CookieJar(SERVER.public), initiation()
    jar.remember_sent(asked)
    jar.consume_reply(server.reply(asked, ELSEWHERE, PORT, 0.0), 0.0)
    server.check(initiation(jar.current(0.0)), ELSEWHERE, PORT, 0.0, under_load=True)


def test_who_shows_no_cookie_uses_up_no_tokens_of_the_address() -> None:
    server = checker()
    for _ in range(100):
        assert refusal_of(lambda: server.check(initiation(), HOME, PORT, 0.0, under_load=True))
    message = initiation(jar_with_cookie(server).current(0.0))
    server.check(message, HOME, PORT, 0.0, under_load=True)


def test_a_cookie_reply_answers_a_response_as_well() -> None:
    done = shake_hands()
    server = CookieChecker(CLIENT.public, SourceLimiter())
    jar = CookieJar(CLIENT.public)
    jar.remember_sent(done.response)
    reply = server.reply(done.response, HOME, PORT, 0.0)
    assert CookieReply.unpack(reply).receiver == done.server.local_index
    jar.consume_reply(reply, 0.0)
    assert jar.current(0.0) is not None


def test_a_cookie_reply_is_smaller_than_what_it_answers_and_new_each_time() -> None:
    server, message = checker(), initiation()
    first, second = (server.reply(message, HOME, PORT, 0.0) for _ in range(2))
    assert len(first) == 64 < len(message)
    assert first[4:8] == message[4:8]
    assert first[8:32] != second[8:32]


def test_any_flipped_bit_in_a_cookie_reply_is_refused() -> None:
    """All but the receiver index's, by which the caller finds the jar."""
    message = initiation()
    reply = checker().reply(message, HOME, PORT, 0.0)
    jar = CookieJar(SERVER.public)
    jar.remember_sent(message)
    for bit in (*range(32), *range(64, 8 * 64)):
        changed = flip_bit(reply, bit)
        reason = refusal_of(lambda changed=changed: jar.consume_reply(changed, 0.0))
        assert reason in (Refusal.BAD_COOKIE, Refusal.BAD_TYPE, Refusal.BAD_LENGTH)
        assert jar.current(0.0) is None
    jar.consume_reply(reply, 0.0)


def test_a_cookie_reply_that_nothing_asked_for_is_refused() -> None:
    server, message = checker(), initiation()
    reply = server.reply(message, HOME, PORT, 0.0)
    jar = CookieJar(SERVER.public)
    assert refusal_of(lambda: jar.consume_reply(reply, 0.0)) is Refusal.BAD_COOKIE
    jar.remember_sent(initiation())  # another one
    assert refusal_of(lambda: jar.consume_reply(reply, 0.0)) is Refusal.BAD_COOKIE
    jar.remember_sent(message)
    jar.consume_reply(reply, 0.0)
    assert refusal_of(lambda: jar.consume_reply(reply, 1.0)) is Refusal.BAD_COOKIE


def test_a_forged_cookie_reply_keeps_the_cookie_that_is_there() -> None:
    server = checker()
    jar = jar_with_cookie(server)
    before = jar.current(1.0)
    message = initiation()
    jar.remember_sent(message)
    forged = CookieChecker(STRANGER.public, SourceLimiter()).reply(
        with_right_macs(message, STRANGER.public), HOME, PORT, 1.0
    )
    assert refusal_of(lambda: jar.consume_reply(forged, 1.0)) is Refusal.BAD_COOKIE
    assert jar.current(1.0) == before
    assert repr(before) not in repr(jar)
