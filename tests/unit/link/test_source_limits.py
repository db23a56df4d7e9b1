"""Limits a source: how many at once, how many a second, and how much memory it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastun.link import source_limits
from fastun.link.source_limits import SourceLimits, TokenBucket, host_of, source_of

GATE = Path(__file__).parents[3] / "csrc" / "inbound" / "handshake_gate.h"


def n_remembered(limits: SourceLimits) -> int:
    return len(limits._buckets)  # noqa: SLF001 (nothing else shows it)


def test_the_numbers_are_those_of_the_gate_on_udp() -> None:
    defined = dict(re.findall(r"(\w+) = (\d+),", GATE.read_text()))
    for name in (
        "HANDSHAKES_PER_SECOND",
        "HANDSHAKES_BURST",
        "PROVEN_PER_SECOND_OF_ALL",
        "PROVEN_BURST_OF_ALL",
    ):
        assert int(defined[name]) == getattr(source_limits, name)


def test_a_bucket_gives_its_burst_and_then_so_many_a_second() -> None:
    bucket = TokenBucket(20, 5)
    assert [bucket.take(100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not bucket.take(100.04)
    assert bucket.take(100.051)
    assert not bucket.take(100.051)
    n_taken = sum(bucket.take(101 + n / 1000) for n in range(10_000))
    assert 200 <= n_taken <= 206


def test_a_source_takes_nothing_of_another() -> None:
    limits = SourceLimits(20, 5)
    assert sum(limits.take(b"loud", 1.0) for _ in range(100)) == 5
    assert limits.take(b"quiet", 1.0)


def test_however_many_sources_come_only_so_many_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source_limits, "SOURCES_MAX", 10)
    limits = SourceLimits(20, 5)
    for n in range(1000):
        assert limits.take(n.to_bytes(4), 1.0)
    assert n_remembered(limits) == 10


def test_a_source_that_goes_on_is_not_forgotten_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source_limits, "SOURCES_MAX", 10)
    limits = SourceLimits(20, 5)
    n_passed = 0
    for n in range(1000):
        n_passed += limits.take(b"loud", 1.0)
        limits.take(n.to_bytes(4), 1.0)
    assert n_passed == 5


def test_sources_whose_buckets_are_full_again_are_forgotten() -> None:
    limits = SourceLimits(20, 5)
    for n in range(100):
        limits.take(n.to_bytes(4), 1.0)
    for n in range(1000, 1060):
        limits.take(n.to_bytes(4), 2.0)
    assert n_remembered(limits) <= 62


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%lo", "fe80::2%lo", True),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_slash_64(
    one: str, other: str, is_same: bool
) -> None:
    assert (source_of(one) == source_of(other)) is is_same


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("127.0.0.1", "127.255.255.254", True),
        ("127.0.0.1", "::ffff:127.1.2.3", True),
        ("127.0.0.1", "128.0.0.1", False),
        ("126.0.0.1", "126.0.0.2", False),
        ("7f00::1", "7f00:0:0:1::1", False),
    ],
)
def test_this_host_has_all_of_its_loopback_network(one: str, other: str, is_same: bool) -> None:
    assert (host_of(source_of(one)) == host_of(source_of(other))) is is_same
