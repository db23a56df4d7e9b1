"""Timestamps and the replay rule that stands on them."""

from __future__ import annotations

import time

import pytest

from fastun.session import noise, tai64n
from fastun.session.initiation_guard import InitiationGuard
from fastun.session.refusal import Refusal
from tests.support.parties import CLIENT, SERVER, refusal_of

YESTERDAY, NOW, LATER = (
    tai64n.from_unix_ns(seconds * 10**9)
    for seconds in (1_700_000_000, 1_700_086_400, 1_700_086_401)
)


def test_the_first_initiation_is_admitted_whatever_its_time() -> None:
    InitiationGuard().admit(YESTERDAY, 0.0)
    InitiationGuard().admit(tai64n.from_unix_ns(0), 0.0)


def test_a_timestamp_never_counts_twice_and_never_backwards() -> None:
    guard = InitiationGuard()
    guard.admit(NOW, 100.0)
    for now_s in (100.0, 101.0, 1e9):
        assert refusal_of(lambda now_s=now_s: guard.admit(NOW, now_s)) is Refusal.REPLAYED_TIMESTAMP
        reason = refusal_of(lambda now_s=now_s: guard.admit(YESTERDAY, now_s))
        assert reason is Refusal.REPLAYED_TIMESTAMP
    guard.admit(LATER, 101.0)
    assert refusal_of(lambda: guard.admit(NOW, 200.0)) is Refusal.REPLAYED_TIMESTAMP


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.0199])
def test_a_second_initiation_within_20_ms_is_too_soon_and_not_remembered(after_s: float) -> None:
    guard = InitiationGuard()
    guard.admit(NOW, 100.0)
    assert refusal_of(lambda: guard.admit(LATER, 100.0 + after_s)) is Refusal.TOO_SOON
    guard.admit(LATER, 100.0201)  # from the first, not from the refused one


def test_a_refused_replay_does_not_make_the_right_one_too_soon() -> None:
    guard = InitiationGuard()
    guard.admit(NOW, 100.0)
    assert refusal_of(lambda: guard.admit(NOW, 200.0)) is Refusal.REPLAYED_TIMESTAMP
    guard.admit(LATER, 200.001)


def test_a_recorded_initiation_opens_again_but_is_not_admitted_again() -> None:
    recorded, _ = noise.initiate(CLIENT, SERVER.public)
    guard = InitiationGuard()
    guard.admit(noise.consume_initiation(SERVER, recorded).timestamp, 1.0)
    replayed = noise.consume_initiation(SERVER, recorded)
    reason = refusal_of(lambda: guard.admit(replayed.timestamp, 2.0))
    assert reason is Refusal.REPLAYED_TIMESTAMP


def test_a_timestamp_is_tai64n() -> None:
    # 2^62 and ten seconds before 1970 in Unix time; then nanoseconds, both big-endian.
    assert tai64n.from_unix_ns(0).hex() == "400000000000000a00000000"
    assert tai64n.from_unix_ns(1_700_000_000 * 10**9).hex() == "400000006553f10a00000000"
    assert tai64n.from_unix_ns(5 * 10**9 + 999_999_999).hex()[16:] == "3b000000"


def test_the_low_24_bits_of_the_nanoseconds_are_cleared_and_no_more() -> None:
    for nanoseconds in (1, 2**24 - 1):
        assert tai64n.from_unix_ns(nanoseconds) == tai64n.from_unix_ns(0)
    assert tai64n.from_unix_ns(2**24) > tai64n.from_unix_ns(2**24 - 1)


def test_now_is_now() -> None:
    before = tai64n.from_unix_ns(time.time_ns())
    assert before <= tai64n.now() <= tai64n.from_unix_ns(time.time_ns())


def test_any_time_is_later_than_never() -> None:
    assert tai64n.from_unix_ns(0) > tai64n.NEVER
