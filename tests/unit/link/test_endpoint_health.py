"""In which order a client's endpoints are tried."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.link import endpoint_health
from fastun.link.endpoint_health import BACK_OFF_FIRST_S, BACK_OFF_MAX_S, EndpointHealth
from fastun.session import clock

if TYPE_CHECKING:
    from fastun.link.endpoint_health import Key

HOSTS = [IPv4Address(f"192.0.2.{n}") for n in (1, 2, 3)]


def key(host: IPv4Address) -> Key:
    return "udp", host, 51820


def ordered(health: EndpointHealth, order: str = "listed") -> list[IPv4Address]:
    peer = cast("Any", SimpleNamespace(endpoint_order=order))
    return health.ordered(peer, HOSTS, key)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(clock, "boottime_s", lambda: now.s)
    return now


def test_one_that_failed_is_last_for_a_while_that_doubles_until_it_answers(
    now: SimpleNamespace,
) -> None:
    health, pause_s = EndpointHealth(), BACK_OFF_FIRST_S
    assert ordered(health) == HOSTS
    for _ in range(12):
        health.failed(key(HOSTS[0]))
        assert ordered(health) == [*HOSTS[1:], HOSTS[0]]
        now.s += min(pause_s, BACK_OFF_MAX_S) - 0.001
        assert ordered(health) == [*HOSTS[1:], HOSTS[0]]
        now.s += 0.001
        assert ordered(health) == HOSTS
        pause_s *= 2
    health.failed(key(HOSTS[0]))
    health.answered(key(HOSTS[0]))
    assert ordered(health) == HOSTS
    assert not health.is_backed_off(key(HOSTS[0]))


@pytest.mark.usefixtures("now")
def test_where_all_have_failed_the_order_is_as_if_none_had() -> None:
    health = EndpointHealth()
    for host in HOSTS:
        health.failed(key(host))
    assert ordered(health) == HOSTS


@pytest.mark.usefixtures("now")
def test_no_more_failures_are_kept_than_a_client_can_have_endpoints() -> None:
    health = EndpointHealth()
    for port in range(2 * endpoint_health.REMEMBERED_MAX):
        health.failed(("udp", HOSTS[0], port))
    assert sum(health.is_backed_off(("udp", HOSTS[0], port)) for port in range(65536)) == (
        endpoint_health.REMEMBERED_MAX
    )


def test_each_client_has_an_order_of_its_own_that_stays() -> None:
    clients = [number.to_bytes(32, "big") for number in range(600)]
    orders = [ordered(EndpointHealth(own), "spread") for own in clients]
    assert orders == [ordered(EndpointHealth(own), "spread") for own in clients]
    assert all(sorted(order) == HOSTS for order in orders)
    for place in range(3):
        shares = Counter(order[place] for order in orders)
        assert all(abs(n - 200) < 60 for n in shares.values()), shares
    # What the first one has is spread over both others where it is gone.
    seconds = Counter(order[1] for order in orders if order[0] == HOSTS[0])
    assert min(seconds.values()) > sum(seconds.values()) / 4
