"""Which networks stay beside a tunnel that takes everything."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

import pytest

from fastun.host.netlink.kernel import FoundAddress, FoundRoute, Place
from fastun.host.routing.full_tunnel import apart, beside
from fastun.host.routing.rule_kinds import MAIN_TABLE

OURS, UPLINK, BRIDGE = 7, 2, 3


def found(
    *addresses: tuple[str, int], allow_lan: bool, default: tuple[str, ...] = ("0.0.0.0/0",)
) -> list[str]:
    there = [
        FoundAddress(index, ip_interface(text), ip_interface(text), has_route=True, is_ours=False)
        for text, index in addresses
    ]
    routes = [
        FoundRoute(Place(ip_network(text), MAIN_TABLE), frozenset((UPLINK,)), is_ours=False)
        for text in default
    ]
    return list(map(str, beside(there, routes, OURS, allow_lan=allow_lan)))


@pytest.mark.parametrize(
    ("address", "is_private"),
    [
        ("192.168.1.2/24", True),
        ("10.1.2.3/8", True),
        ("172.31.0.1/16", True),
        ("169.254.9.9/16", True),
        ("fd12::1/64", True),
        # Public, or wider than what is private: an attacker's LAN may have any of them.
        ("192.0.2.2/24", False),
        ("203.0.113.9/32", False),
        ("100.64.0.2/10", False),
        ("172.32.0.1/16", False),
        ("192.168.1.2/15", False),
        ("10.1.2.3/7", False),
        ("10.1.2.3/0", False),
        ("2001:db8::2/64", False),
        ("fd12::1/6", False),
    ],
)
def test_only_private_networks_are_a_lan(address: str, is_private: bool) -> None:
    network = str(ip_interface(address).network)
    assert found((address, UPLINK), allow_lan=True) == [network] * is_private
    assert found((address, UPLINK), allow_lan=False) == []


def test_what_has_no_router_stays_and_the_tunnels_own_network_and_loopback_do_not_count() -> None:
    addresses = ("172.18.0.1/16", BRIDGE), ("10.9.0.2/24", OURS), ("10.0.0.1/8", 1)
    assert found(*addresses, allow_lan=False) == ["172.18.0.0/16"]
    assert found(*addresses, allow_lan=True) == ["172.18.0.0/16"]


def test_halves_of_a_default_route_make_an_uplink_too() -> None:
    assert found(("10.1.2.3/8", UPLINK), allow_lan=False, default=("128.0.0.0/1",)) == []


def test_what_has_addresses_in_common_with_what_is_behind_the_tunnel_is_not_beside_it() -> None:
    inside = [ip_network(text) for text in ("0.0.0.0/0", "::/0", "10.9.0.0/24", "fd09::/64")]
    networks = ["192.168.1.0/24", "10.0.0.0/8", "10.9.0.128/25", "10.8.0.0/16", "fd09::/48"]
    free, meeting = apart(map(ip_network, networks), inside)
    assert list(map(str, free)) == ["192.168.1.0/24", "10.8.0.0/16"]
    assert list(map(str, meeting)) == ["10.0.0.0/8", "10.9.0.128/25", "fd09::/48"]
