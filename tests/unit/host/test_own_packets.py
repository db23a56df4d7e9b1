"""No route takes the tunnel's own packets: what is pushed, and what names resolve to."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from fastun.endpoint import parse
from fastun.host.routing import routes, tables
from fastun.host.routing.outer_addresses import of_settings
from fastun.host.routing.placing import Caught
from fastun.host.routing.routes import prepared
from tests.support.fake_kernel import FT0, MAIN, FakeKernel
from tests.support.pushed_device import MARK, Client, settings

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.mark.parametrize(
    ("route", "outer"),
    [
        ("203.0.113.0/24", "203.0.113.9"),
        ("203.0.113.9/32", "203.0.113.9"),
        ("2001:db8::/32", "2001:db8::9"),
        ("0.0.0.0/1", "::1"),
        ("0.0.0.0/0", "::1"),
    ],
)
def test_a_route_with_our_servers_address_is_made_with_rules_or_not_at_all(
    kernel: FakeKernel, route: str, outer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client()
    client.push(route, outer=outer)
    ((_, table),) = kernel.routes_of()
    assert table == MARK
    assert [rule["FRA_FWMARK"] for rule in kernel.rules] == [MARK, None]
    client.push()
    assert kernel.routes_of() == set()
    assert kernel.rules == []
    Client(fwmark=0).push(route, "10.0.0.0/8", outer=outer)
    assert kernel.routes_of() == {("10.0.0.0/8", MAIN)}
    assert "our packets have no mark" in capsys.readouterr().err


def test_a_server_that_has_moved_moves_the_route_with_the_next_push(kernel: FakeKernel) -> None:
    client = Client()
    client.push("203.0.113.0/24", outer="203.0.112.9")
    assert kernel.routes_of() == {("203.0.113.0/24", MAIN)}
    client.push("203.0.113.0/24", outer="203.0.113.9")
    assert kernel.routes_of() == {("203.0.113.0/24", MARK)}
    client.push("203.0.113.0/24", outer="203.0.112.9")
    assert kernel.routes_of() == {("203.0.113.0/24", MAIN)}
    assert kernel.rules == []


def test_an_outer_address_moves_routes_only_where_others_would_catch_it(
    kernel: FakeKernel,
) -> None:
    client = Client()
    client.push("203.0.113.0/24", "10.0.0.0/8", outer="198.51.100.1")
    assert len(kernel.routes_of()) == 2
    moves = client._reconciler.is_moved_by  # noqa: SLF001
    assert not moves([ip_address("198.51.100.2")])
    assert not moves([])
    assert moves([ip_address("203.0.113.9")])
    client.push("203.0.113.0/24", "10.0.0.0/8", outer="203.0.113.9")
    assert not moves([ip_address("203.0.113.10")])
    assert moves([ip_address("10.1.2.3")])


def test_the_configured_endpoints_count_beside_those_in_use(kernel: FakeKernel) -> None:
    client = Client(endpoints=(parse("udp://203.0.113.1"), parse("udp://203.0.114.1")))
    client.push("203.0.113.0/24", "203.0.114.0/24", "203.0.115.0/24", outer="203.0.115.1")
    assert {table for _, table in kernel.routes_of()} == {MARK}


@pytest.mark.parametrize("table", [4242, MARK])
def test_a_table_of_the_users_own_has_all_routes_and_no_rules(
    kernel: FakeKernel, table: int
) -> None:
    Client(table=table).push("203.0.113.0/24", "0.0.0.0/0", outer="203.0.113.1")
    assert {table for _, table in kernel.routes_of()} == {table}
    assert kernel.rules == []


@pytest.fixture
def before_the_device(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "IPRoute", kernel)
    monkeypatch.setattr(tables, "in_use", set)


@pytest.mark.usefixtures("before_the_device")
@pytest.mark.parametrize(
    ("allowed", "endpoint", "fields", "mark"),
    [
        ("10.0.0.0/8", "udp://10.1.2.3", {}, MARK),
        ("10.0.0.0/8", "tcp://10.1.2.3", {}, MARK),
        ("0.0.0.0/1", "udp://[2001:db8::1]", {}, MARK),
        ("10.0.0.0/8", "udp://11.1.2.3", {}, MARK),  # it may move there
        ("10.0.0.0/8", "udp://10.1.2.3", {"accept": ()}, 0),
        ("10.0.0.0/8", "udp://10.1.2.3", {"accept": (), "table": "auto"}, MARK),
        ("10.0.0.0/8", "udp://10.1.2.3", {"fwmark": 5}, 5),
        ("10.0.0.0/8", "udp://name.invalid", {}, MARK),
        ("10.0.0.0/8", "udp://10.1.2.3", {"accept": (), "addresses": "10.1.0.2/16"}, MARK),
        ("10.0.0.0/8", "udp://10.2.2.3", {"accept": (), "addresses": "10.1.0.2/16"}, 0),
        ("10.0.0.0/8", "udp://name.invalid", {"accept": (), "addresses": "10.1.0.2/16"}, MARK),
    ],
)
def test_our_packets_are_marked_before_there_is_a_device_where_a_route_may_catch_them(
    allowed: str,
    endpoint: str,
    fields: dict[str, Any],
    mark: int,
) -> None:
    fields = {"fwmark": 0, **fields}
    if "addresses" in fields:
        fields["addresses"] = (ip_interface(fields["addresses"]),)
    assert prepared(settings(allowed, endpoints=(parse(endpoint),), **fields)).fwmark == mark


def test_what_is_configured_is_kept_out_of_our_way_like_what_is_pushed(kernel: FakeKernel) -> None:
    client = Client(
        "203.0.113.0/24", "10.7.0.0/16", endpoints=(parse("udp://203.0.113.1"),), table="auto"
    )
    client.push()
    assert kernel.routes_of() == {("203.0.113.0/24", MARK), ("10.7.0.0/16", MAIN)}


def test_a_configured_route_that_the_lan_has_costs_no_other(
    kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    Client("192.168.77.0/24", "10.7.0.0/16", table="auto").push()
    assert kernel.routes_of() == {("10.7.0.0/16", MAIN)}
    (said,) = capsys.readouterr().err.splitlines()
    assert "192.168.77.0/24" in said
    assert "another interface of this host has it already: lan; remove it" in said


def test_an_address_whose_network_has_our_server_is_made_without_its_route(
    kernel: FakeKernel,
) -> None:
    its = {"addresses": (ip_interface("203.0.113.9/24"), ip_interface("10.9.0.1/24"))}
    client = Client(**its)
    client.push(outer="203.0.113.1")
    assert kernel.routes_of() == {("203.0.113.0/24", MARK)}
    assert [each.has_route for each in kernel.addresses() if each.index == FT0] == [False, True]
    client.push(outer="198.51.100.1")
    assert kernel.routes_of() == set()
    assert all(each.has_route for each in kernel.addresses())


@pytest.mark.parametrize("address", ["203.0.113.9/0", "203.0.113.9/1", "2001:db8::9/0"])
def test_an_address_of_no_length_makes_no_default_route(kernel: FakeKernel, address: str) -> None:
    Client(addresses=(ip_interface(address),)).push(outer="203.0.113.1")
    assert kernel.routes_of() == set()
    assert [each.has_route for each in kernel.addresses() if each.index == FT0] == [False]


def test_of_the_settings_only_addresses_are_known_names_come_later() -> None:
    its = settings(endpoints=(parse("udp://192.0.2.1"),))
    assert of_settings(its) == ({ip_address("192.0.2.1")}, True)
    its = settings(endpoints=(parse("udp://vpn.example"), parse("tcp://192.0.2.1")))
    assert of_settings(its) == ({ip_address("192.0.2.1")}, False)


def test_an_address_is_in_networks_of_its_own_version_only() -> None:
    v4, v6, other = map(ip_network, ("0.0.0.0/0", "::/0", "10.0.1.0/24"))
    assert Caught((v4, v6, other)).by([ip_address("10.0.0.1")]) == {v4}
