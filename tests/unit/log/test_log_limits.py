"""How many lines one source may cause (fastun/log/limits.py)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from fastun import log
from fastun.log.limits import (
    PER_EVENT,
    PER_SOURCE,
    SAY_AFTER_S,
    SOURCES_MAX,
    Buckets,
    Limit,
    LineLimits,
    source_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

A_WHILE_S = PER_SOURCE.burst * PER_SOURCE.interval_s


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> LineLimits:
    return LineLimits(clock)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def n_admitted(limits: LineLimits, n: int, event: str = "no link", **fields: Any) -> int:
    """Return how many of `n` such events come through."""
    admitted = 0
    for _ in range(n):
        try:
            limits(None, "info", {"component": "link", "event": event, **fields})
        except structlog.DropEvent:
            continue
        admitted += 1
    return admitted


@pytest.mark.parametrize("source", [{"peer": "laptop"}, {"remote": "192.0.2.1:5"}])
def test_one_source_may_cause_ten_lines_and_then_one_in_five_seconds(
    limits: LineLimits, clock: Clock, source: dict[str, str]
) -> None:
    assert n_admitted(limits, 1000, **source) == PER_SOURCE.burst == 10
    clock.now_s += PER_SOURCE.interval_s
    assert n_admitted(limits, 1000, **source) == 1
    clock.now_s += 100 * A_WHILE_S
    assert n_admitted(limits, 1000, **source) == PER_SOURCE.burst
    assert limits.n_held_back == 3000 - 21


def test_what_one_source_causes_holds_back_no_line_of_others(limits: LineLimits) -> None:
    n_admitted(limits, 1000, peer="laptop")
    n_admitted(limits, 1000, remote="192.0.2.1:5")
    assert n_admitted(limits, 5, peer="phone") == 5
    assert n_admitted(limits, 5, remote="192.0.2.2:5") == 5
    assert n_admitted(limits, 5, event="roamed", peer="laptop") == 5


def test_ports_and_addresses_of_one_network_are_one_source(limits: LineLimits) -> None:
    ports = sum(n_admitted(limits, 1, remote=f"192.0.2.1:{port}") for port in range(1, 100))
    hosts = sum(n_admitted(limits, 1, remote=f"[2001:db8::{n:x}]:5") for n in range(1, 100))
    assert ports == hosts == PER_SOURCE.burst


@pytest.mark.parametrize(
    ("source", "remote", "others"),
    [
        ("192.0.2.1", "192.0.2.1:5", "192.0.2.2:5"),
        ("2001:db8:1:2::/64", "[2001:db8:1:2:3::4]:5", "[2001:db8:1:3::1]:5"),
    ],
)
def test_an_event_that_names_its_source_is_of_that_source(
    limits: LineLimits, source: str, remote: str, others: str
) -> None:
    assert n_admitted(limits, 1000, source=source) == PER_SOURCE.burst
    assert n_admitted(limits, 5, remote=remote) == 0
    assert n_admitted(limits, 5, remote=others) == 5


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("192.0.2.1:5", "192.0.2.1"),
        ("tcp://192.0.2.1:5", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:5", "192.0.2.1"),
        ("[2001:db8:1:2:3::4]:5", "20010db800010002"),
        ("[fe80::1%eth0]:5", "fe80000000000000"),
        ("vpn.example.net:5", "vpn.example.net"),
        ("?", ""),
        ("None", ""),
    ],
)
def test_a_source_is_an_address_or_a_network_of_ipv6(remote: str, source: str) -> None:
    assert source_of(remote) == source


def test_strangers_have_one_limit_together_however_many_addresses(limits: LineLimits) -> None:
    remotes = [f"[2001:db8:{n:x}::1]:5" for n in range(3 * SOURCES_MAX)]
    assert sum(n_admitted(limits, 1, remote=remote) for remote in remotes) == PER_EVENT.burst == 50
    assert n_admitted(limits, 5, peer="laptop") == 5


def test_what_is_remembered_of_sources_is_bounded_and_the_latest() -> None:
    buckets, limit = Buckets(), Limit(burst=1, interval_s=1e9)
    for n in range(3 * SOURCES_MAX):
        assert buckets.take(n, 0.0, limit)
        assert not buckets.take(n, 0.0, limit)
        assert not buckets.take(0, 0.0, limit)  # it is in use, so it is not forgotten
    assert len(buckets) == SOURCES_MAX


def test_events_without_a_source_have_a_limit_too(limits: LineLimits, clock: Clock) -> None:
    assert n_admitted(limits, 1000) == PER_EVENT.burst
    clock.now_s += 10
    assert n_admitted(limits, 1000) == 10 / PER_EVENT.interval_s


def test_what_was_held_back_is_said_once_with_its_number(limits: LineLimits, clock: Clock) -> None:
    n_admitted(limits, 11, peer="laptop", error="the first")
    n_admitted(limits, 29, peer="laptop", error="the last")
    assert limits.due() == []
    clock.now_s += SAY_AFTER_S
    ((method, event),) = limits.due()
    assert method == "info"
    assert event["error"] == "the last"
    assert event["more_like_it"] == 29
    assert limits(None, method, event) == event  # what is said of them is not held back itself
    assert limits.due() == []


def test_at_the_end_what_was_held_back_is_said_at_once(limits: LineLimits) -> None:
    n_admitted(limits, 12, peer="laptop")
    assert [event["more_like_it"] for _, event in limits.due(at_end=True)] == [1]


def test_the_log_keeps_to_the_limits(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json", 0)
    events = log.get("link")
    for n in range(1000):
        events.info("up", peer="laptop", remote=f"192.0.2.1:{n}")
    log.say_held_back(at_end=True)
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(said) == PER_SOURCE.burst + 1
    assert (said[-1]["remote"], said[-1]["more_like_it"]) == ("192.0.2.1:999", 989)
    assert log.lines_dropped()["rate_limit"] == 990


def test_less_than_the_usual_verbosity_leaves_errors(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json", -1)
    for level in ("debug", "info", "warning", "error"):
        getattr(log.get("link"), level)("down")
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in said] == ["error"]


def test_debug_lines_are_limited_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json", 1)
    for _ in range(1000):
        log.get("link").debug("handshake refused", remote="192.0.2.1:5")
    assert len(capsys.readouterr().err.splitlines()) == PER_SOURCE.burst


def test_a_line_is_bounded_whatever_a_peer_says(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json", 0)
    log.get("session").info("hello", peer="laptop", software="x" * 65535)
    assert len(capsys.readouterr().err) < 1024


def test_what_libraries_log_is_limited_and_in_our_format(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def fail() -> None:
        raise ValueError("nobody looks")

    async def main() -> None:
        for _ in range(1000):
            task = asyncio.create_task(fail())
            await asyncio.wait([task])
            del task

    log.configure("json", 0)
    asyncio.run(main())
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(said) == PER_EVENT.burst
    assert "never retrieved" in said[0]["text"]
    assert "nobody looks" in said[0]["exception"]
