"""The limiter of handshakes by source, and the gauge that says when it is asked."""

from __future__ import annotations

from ipaddress import ip_address

from fastun.session.limiter import SourceLimiter
from fastun.session.load import LoadGauge

HOME = ip_address("192.0.2.1")


def n_admitted(limiter: SourceLimiter, address: str, now_s: float, n_asked: int = 100) -> int:
    return sum(limiter.admit(ip_address(address), now_s) for _ in range(n_asked))


def test_five_at_once_then_twenty_a_second() -> None:
    limiter = SourceLimiter()
    assert n_admitted(limiter, "192.0.2.1", 100.0) == 5
    assert n_admitted(limiter, "192.0.2.1", 100.049) == 0
    assert n_admitted(limiter, "192.0.2.1", 100.051) == 1
    admitted = sum(limiter.admit(HOME, 101.0 + step / 1000) for step in range(10_000))
    assert 200 <= admitted <= 206


def test_a_full_bucket_does_not_overflow() -> None:
    limiter = SourceLimiter()
    assert n_admitted(limiter, "192.0.2.1", 0.0) == 5
    assert n_admitted(limiter, "192.0.2.1", 1000.0) == 5
    for now_s in (2000.0, 2000.2, 2000.4):  # kept all the time, never more than full
        limiter.admit(HOME, now_s)
    assert n_admitted(limiter, "192.0.2.1", 2000.6) == 5


def test_asking_while_empty_does_not_put_off_the_next_token() -> None:
    limiter = SourceLimiter()
    n_admitted(limiter, "192.0.2.1", 0.0)
    assert not any(limiter.admit(HOME, step / 1000) for step in range(1, 50))
    assert limiter.admit(HOME, 0.0501)


def test_each_ipv4_address_is_a_source() -> None:
    limiter = SourceLimiter()
    assert n_admitted(limiter, "192.0.2.1", 0.0) == 5
    assert n_admitted(limiter, "192.0.2.2", 0.0) == 5


def test_a_slash_64_is_one_source_and_the_next_another() -> None:
    limiter = SourceLimiter()
    assert n_admitted(limiter, "2001:db8::1", 0.0) == 5
    assert n_admitted(limiter, "2001:db8::ffff:0:0:2", 0.0) == 0
    assert n_admitted(limiter, "2001:db8:0:1::1", 0.0) == 5


def test_ipv4_peers_of_an_ipv6_socket_are_sources_of_their_own() -> None:
    limiter = SourceLimiter()
    assert n_admitted(limiter, "::ffff:192.0.2.1", 0.0) == 5
    assert n_admitted(limiter, "192.0.2.1", 0.0) == 0
    assert n_admitted(limiter, "::ffff:192.0.2.2", 0.0) == 5


def test_sources_are_forgotten_when_their_buckets_are_full_again() -> None:
    limiter = SourceLimiter()
    for number in range(1000):
        limiter.admit(ip_address(number), 0.0)
    assert len(limiter) == 1000
    limiter.admit(HOME, 0.249)
    assert len(limiter) == 1001
    limiter.admit(HOME, 0.25)
    assert len(limiter) == 1


def test_a_table_that_is_full_takes_no_new_source_and_serves_those_it_has() -> None:
    limiter = SourceLimiter(sources_max=2)
    assert limiter.admit(ip_address("192.0.2.1"), 0.0)
    assert limiter.admit(ip_address("192.0.2.2"), 0.0)
    assert not limiter.admit(ip_address("192.0.2.3"), 0.1)
    assert limiter.admit(ip_address("192.0.2.1"), 0.1)
    assert limiter.admit(ip_address("192.0.2.3"), 0.3)  # the second is forgotten
    assert len(limiter) == 2


def test_load_begins_at_an_eighth_of_the_queue_and_is_held_for_a_second() -> None:
    gauge = LoadGauge(queue_capacity=4096)
    assert not gauge.observe(511, 0.0)
    assert gauge.observe(512, 10.0)
    assert gauge.observe(0, 10.999)
    assert not gauge.observe(0, 11.0)
