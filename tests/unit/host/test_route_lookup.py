"""The kernel's answers about loopback, which every host has."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from fastun.host.routing.route_lookup import RouteLookup

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = socket.if_nametoindex("lo")


@pytest.fixture
def lookup() -> Iterator[RouteLookup]:
    made = RouteLookup(0)
    yield made
    made.close()


def test_the_interface_to_a_host_is_found(lookup: RouteLookup) -> None:
    for host, source in (("127.0.0.1", None), ("127.0.0.9", "127.0.0.1")):
        ours = None if source is None else ip_address(source)
        assert lookup.interface_to(ip_address(host), 55555, socket.IPPROTO_TCP, ours) == LOOPBACK
        assert lookup.interface_to(ip_address(host), 51820, socket.IPPROTO_UDP, ours) == LOOPBACK
    if socket.has_dualstack_ipv6():
        assert lookup.interface_to(ip_address("::1"), 51820, socket.IPPROTO_UDP) == LOOPBACK


def test_without_a_route_there_is_none(lookup: RouteLookup) -> None:
    host, absent = ip_address("127.0.0.1"), ip_address("192.0.2.77")
    assert lookup.interface_to(host, 51820, socket.IPPROTO_UDP, absent) == 0
    assert lookup.interface_to(host, 51820, socket.IPPROTO_UDP) == LOOPBACK  # asked anew


def test_nothing_changes_by_itself(lookup: RouteLookup) -> None:
    lookup.have_changed()
    assert not lookup.have_changed()
