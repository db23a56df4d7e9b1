"""The MTU that this host sets for a way: what its routes say, and never what ICMP has said."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from fastun.host.netlink.rtnetlink import RouteChanges
from fastun.lab.host import wait_until
from fastun.link.datagram.local_mtu import local_mtu
from fastun.link.datagram.sockets import cached_path_mtu
from fastun.native import UdpAddress
from tests.support.forged_icmp import datagram_head, forge, too_big

if TYPE_CHECKING:
    from fastun.lab.host import Host
    from fastun.lab.network import Lab

ROUTES = """
route add 10.7.0.0/24 via 10.5.0.2 mtu 1350
route add 10.8.0.0/24 via 10.5.0.2 mtu lock 1340
route add 10.9.0.0/24 nexthop via 10.5.0.2 nexthop via 10.6.0.2
route add 10.10.0.0/24 via 10.5.0.2 mtu 9000
route add blackhole 10.11.0.0/24
route add 10.12.0.0/24 via 10.6.0.2 table 77
rule add fwmark 5 table 77
route add 10.13.0.0/24 via 10.5.0.2 table 78
rule add from 10.5.0.1 table 78
-6 route add fd07::/64 via fd05::2 mtu 1350
-6 route add fd09::/64 nexthop via fd05::2 nexthop via fd06::2
-6 route add unreachable fd0b::/64
"""


@pytest.fixture
def here(lab: Lab) -> Host:
    ours, near, narrow = lab.host("ours"), lab.host("near"), lab.host("narrow")
    lab.wire(ours, near, ["10.5.0.1/24", "fd05::1/64"], ["10.5.0.2/24", "fd05::2/64"])
    lab.wire(ours, narrow, ["10.6.0.1/24", "fd06::1/64"], ["10.6.0.2/24", "fd06::2/64"], mtu=1400)
    for line in ROUTES.strip().splitlines():
        ours.ip(*line.split())
    return ours


def measured(host: Host, to: str, mark: int = 0, local: str = "") -> int | None:
    address = UdpAddress(ip_address(to), 9, local=ip_address(local) if local else None)
    try:
        return host.inside(lambda: local_mtu(address, mark))
    except OSError:
        return None


def test_it_is_that_of_the_device_and_of_the_administrators_route(here: Host) -> None:
    expected = {
        "10.5.0.2": 1500,
        "10.6.0.2": 1400,
        "10.7.0.1": 1350,
        "10.8.0.1": 1340,
        "10.9.0.1": 1400,  # of several next hops the least
        "10.10.0.1": 1500,  # no route is wider than its device
        "10.11.0.1": None,
        "10.12.0.1": None,
        "10.5.0.1": 65536,  # our own address: by the loopback
        "127.0.0.1": 65536,
        "fd05::2": 1500,
        "fd06::2": 1400,
        "fd07::1": 1350,
        "fd09::1": 1400,
        "fd0b::1": None,
        "fd05::1": 65536,
        "fdff::1": None,
    }
    assert {to: measured(here, to) for to in expected} == expected
    assert measured(here, "10.12.0.1", mark=5) == 1400
    assert measured(here, "10.13.0.1", local="10.5.0.1") == 1500
    assert measured(here, "10.7.0.1", local="192.0.2.77") == 1350, "our address may have gone"


def test_what_a_routers_advertisement_has_set_counts_for_ipv6(here: Host) -> None:
    here.sysctl(f"net.ipv6.conf.{here.devices()[1]}.mtu", 1320)
    assert measured(here, "fd05::2") == 1320
    assert measured(here, "10.5.0.2") == 1500


def test_what_the_kernel_has_from_icmp_does_not_count(here: Host, lab: Lab) -> None:
    near = next(host for host in lab.hosts if host.name == "near")
    for ours, theirs, least in (("10.5.0.1", "10.5.0.2", 552), ("fd05::1", "fd05::2", 1280)):
        family = socket.AF_INET6 if ":" in ours else socket.AF_INET
        with here.socket(family, socket.SOCK_DGRAM) as bound:
            bound.bind((ours, 5555))
            quote = datagram_head((ours, 5555), (theirs, 9))
            forge(near, ours, [too_big(quote, least)])
            to = UdpAddress(ip_address(theirs), 9)
            wait_until(
                lambda to=to, least=least: here.inside(lambda: cached_path_mtu(to)) == least,
                "it is poisoned",
            )  # type: ignore[misc]
        assert measured(here, theirs) == 1500


def test_changes_of_routes_links_and_rules_are_heard(here: Host) -> None:
    changes = here.inside(RouteChanges)
    assert not changes.have_come()
    for command in (
        "route add 10.20.0.0/24 via 10.5.0.2",
        "-6 route add fd20::/64 via fd05::2",
        "rule add fwmark 9 table 99",
        "-6 rule add fwmark 9 table 99",
        f"link set {here.devices()[1]} mtu 1450",
    ):
        here.ip(*command.split())
        assert changes.have_come(), command
        while changes.have_come():
            pass
    changes.close()
