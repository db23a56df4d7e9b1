"""The rules of a default route, against a kernel of dictionaries: which are made and which removed.

tests/netns/test_host_routes.py asks the real one.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, cast

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from fastun.host.routing import routing_rules
from fastun.host.routing.routing_rules import FIRST_MARK, PROTOCOL, Level
from tests.support.fake_kernel import FT0, FakeKernel

if TYPE_CHECKING:
    from pyroute2 import IPRoute

V4, V6 = socket.AF_INET, socket.AF_INET6
UNMARKED, KNOWN_FIRST = 32765, 32764


class Kernel(FakeKernel):
    """With default routes of ours."""

    def as_netlink(self) -> IPRoute:
        return cast("IPRoute", self)

    def have_default(self, version: int, table: int) -> None:
        self.have_route({4: "0.0.0.0/0", 6: "::/0"}[version], FT0, table=table)

    def places(self) -> list[tuple[int, int, int | None]]:
        return sorted((r["family"], r["FRA_PRIORITY"], r["FRA_FWMARK"]) for r in self.rules)

    def lead(self, version: int, mark: int, length: int = 0) -> None:
        """Make a default route of ours, and its rules."""
        self.have_default(version, routing_rules.table_of(mark))
        routing_rules.install(self.as_netlink(), Level(version, length), mark)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(routing_rules, "has_routes", kernel.has_routes)
    return kernel


def test_a_mark_is_the_number_of_nothing_else(kernel: Kernel) -> None:
    assert routing_rules.free_mark(kernel.as_netlink(), ()) == FIRST_MARK
    kernel.have_rule(V6, 1, FIRST_MARK, 254, by=3)
    kernel.have_rule(V4, 1, None, FIRST_MARK + 1, by=3)
    assert routing_rules.free_mark(kernel.as_netlink(), {FIRST_MARK + 2}) == FIRST_MARK + 3


@pytest.mark.parametrize(("mark", "table"), [(1, 51821), (51819, 103639), (51820, 51820)])
def test_a_table_is_none_of_the_kernels(mark: int, table: int) -> None:
    assert routing_rules.table_of(mark) == table


def test_all_is_led_once_for_each_ip_version(kernel: Kernel) -> None:
    kernel.lead(4, 60000)
    kernel.lead(6, 60000)
    kernel.lead(4, 60001)
    both = [(KNOWN_FIRST, None), (UNMARKED, 60000)]
    assert kernel.places() == [
        *((int(V4), *place) for place in both),
        (V4, UNMARKED, 60001),
        *((int(V6), *place) for place in both),
    ]


def test_what_the_kernel_refuses_is_reported(kernel: Kernel) -> None:
    kernel.refuses_rules = errno.EPERM
    with pytest.raises(NetlinkError):
        routing_rules.install(kernel.as_netlink(), Level(4, 0), 60000)


def test_a_gateway_that_ends_removes_its_rules_and_leaves_those_of_others(kernel: Kernel) -> None:
    for version in (4, 6):
        kernel.lead(version, 60000)
    kernel.lead(4, 60001)
    kernel.have_rule(V4, UNMARKED, 60000, 254, by=3)
    kernel.have_rule(V4, 100, 60000, 254, by=PROTOCOL)
    routing_rules.remove(kernel.as_netlink(), 60000)
    assert kernel.places() == [
        (V4, 100, 60000),
        (V4, KNOWN_FIRST, None),
        (V4, UNMARKED, 60000),
        (V4, UNMARKED, 60001),
    ]


def test_rules_without_their_route_are_stale_in_each_ip_version(kernel: Kernel) -> None:
    kernel.lead(4, 60000)
    kernel.lead(6, 60000)
    kernel.routes = [route for route in kernel.routes if route["family"] == V6]
    routing_rules.clear_stale(kernel.as_netlink())
    assert kernel.places() == [(V6, KNOWN_FIRST, None), (V6, UNMARKED, 60000)]


def test_of_two_the_one_that_lives_stays(kernel: Kernel) -> None:
    kernel.lead(4, 60000)
    kernel.lead(4, 60001)
    kernel.routes.pop(0)
    routing_rules.clear_stale(kernel.as_netlink())
    assert kernel.places() == [(V4, KNOWN_FIRST, None), (V4, UNMARKED, 60001)]


def test_what_another_program_made_keeps_nothing_of_ours(kernel: Kernel) -> None:
    kernel.lead(4, 60000)
    kernel.routes.clear()
    kernel.have_default(4, 777)
    kernel.have_rule(V4, UNMARKED, 7, 777, by=3)
    routing_rules.clear_stale(kernel.as_netlink())
    assert kernel.places() == [(V4, UNMARKED, 7)]


def test_a_rule_that_another_program_has_removed_is_not_a_fault(kernel: Kernel) -> None:
    kernel.lead(4, 60000)
    kernel.routes.clear()
    kernel.refuses_rules = errno.ENOENT
    routing_rules.clear_stale(kernel.as_netlink())


def test_rules_that_stay_are_said(kernel: Kernel) -> None:
    kernel.lead(4, 60000)
    kernel.refuses_rules = errno.EPERM
    assert not routing_rules.remove(kernel.as_netlink(), 60000)
    kernel.refuses_rules = 0
    assert routing_rules.remove(kernel.as_netlink(), 60000)


def test_a_mark_whose_table_has_routes_is_a_living_gateway_s(kernel: Kernel) -> None:
    kernel.lead(4, 60000)
    assert routing_rules.clear_stale(kernel.as_netlink(), 60000)
    assert not routing_rules.clear_stale(kernel.as_netlink(), 60001)
    kernel.routes.clear()
    assert not routing_rules.clear_stale(kernel.as_netlink(), 60000)
    assert kernel.places() == []


def test_a_default_route_over_ipv4_is_seen_while_its_route_is_there(kernel: Kernel) -> None:
    kernel.lead(6, 60000)
    assert not routing_rules.leads_any(kernel.as_netlink())
    kernel.lead(4, 60001)
    assert routing_rules.leads_any(kernel.as_netlink())
    kernel.routes.clear()
    assert not routing_rules.leads_any(kernel.as_netlink())


def test_each_length_has_rules_of_its_own_and_longer_ones_come_first(kernel: Kernel) -> None:
    for length in (0, 24):
        kernel.lead(4, 60000, length)
    at_24 = KNOWN_FIRST - 2 * 24
    assert kernel.places() == [
        (V4, at_24, None), (V4, at_24 + 1, 60000), (V4, KNOWN_FIRST, None), (V4, UNMARKED, 60000)
    ]  # fmt: skip
    routing_rules.keep(kernel.as_netlink(), 60000, {Level(4, 0)})
    assert kernel.places() == [(V4, KNOWN_FIRST, None), (V4, UNMARKED, 60000)]


def test_a_rule_that_others_have_removed_is_missing(kernel: Kernel) -> None:
    levels = {Level(4, 0), Level(4, 24), Level(6, 0)}
    for level in levels:
        kernel.lead(level.version, 60000, level.length)
    kernel.lead(4, 60001)
    assert routing_rules.missing(kernel.as_netlink(), 60000, levels) == set()
    kernel.rules = [
        rule
        for rule in kernel.rules
        if rule["FRA_PRIORITY"] != KNOWN_FIRST - 48
        and (rule["family"], rule["FRA_FWMARK"]) != (V6, 60000)
    ]
    assert routing_rules.missing(kernel.as_netlink(), 60000, levels) == {Level(4, 24), Level(6, 0)}
    routing_rules.remove(kernel.as_netlink(), 60000)
    assert routing_rules.missing(kernel.as_netlink(), 60000, {Level(4, 0)}) == {Level(4, 0)}
