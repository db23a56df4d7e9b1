"""What a gateway in the wrong hands may have the host process do: what the settings allow."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from fastun.config.settings import Options, load
from fastun.endpoint import parse
from fastun.host.process import messages
from fastun.host.process.channel import Unasked
from fastun.host.process.checks import Checks, outer
from fastun.host.process.messages import OuterEndpointText
from tests.support.pushed_device import settings

ALL = ("addresses", "routes", "mtu", "dns", "default")
SERVER = load("serve", None, Options())


def client(*accept: str, **fields: Any) -> Checks:
    endpoints = (parse("tcp://203.0.113.1:443"), parse("udp://vpn.example.net:51820"))
    its = settings("10.0.0.0/8", "fd09::/16", accept=accept, endpoints=endpoints)
    return Checks(replace(its, **fields))


def test_what_is_accepted_and_within_the_allowed_ips_may_be_pushed() -> None:
    asked = messages.Push(
        addresses=("10.9.0.2/24",), routes=("10.7.0.0/16", "fd09:1::/48"), mtu=1380, takes_all=True
    )
    assert client(*ALL).push(asked) == (
        [ip_interface("10.9.0.2/24")],
        [ip_network("10.7.0.0/16"), ip_network("fd09:1::/48")],
    )


@pytest.mark.parametrize(
    ("fields", "accept", "said"),
    [
        ({"addresses": ("10.9.0.2/24",)}, "addresses", "addresses, which accept does not list"),
        ({"routes": ("10.7.0.0/16",)}, "routes", "routes, which"),
        ({"mtu": 1380}, "mtu", "mtu, which"),
        ({"takes_all": True}, "default", "default, which"),
        ({"routes": ("192.168.0.0/16",)}, "", "192.168.0.0/16, which is not in a peer's allowed"),
        ({"routes": ("0.0.0.0/0",)}, "", "0.0.0.0/0, which is not"),
        ({"addresses": ("10.9.0.2/7",)}, "", "10.9.0.2/7: its network is wider"),
        ({"addresses": ("192.168.0.2/24",)}, "", "is not within the peer's allowed IPs"),
        ({"routes": ("10.7.0.0/16; reboot",)}, "", "which is not an address or a network"),
        ({"routes": ("10.7.0.1/16",)}, "", "which is not an address or a network"),
        ({"addresses": ("fd09::1%x/64",)}, "", "which is not an address or a network"),
        ({"addresses": ("localhost",)}, "", "which is not an address or a network"),
    ],
)
def test_nothing_else_may(fields: dict[str, Any], accept: str, said: str) -> None:
    checks = client(*(each for each in ALL if each != accept))
    with pytest.raises(Unasked, match=said):
        checks.push(messages.Push(**fields))


ANYWHERE = ("0.0.0.0/0", "::/0")
# 32 networks that are the internet of IPv6, each with the route that its address brings.
INTERNET = tuple(f"{0x2000 + (n << 8):x}::1/8" for n in range(32))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"routes": ("0.0.0.0/0",)}, "a default route in pieces"),
        ({"routes": ("0.0.0.0/1", "128.0.0.0/1")}, "a default route in pieces"),
        ({"addresses": INTERNET}, "a default route in pieces"),
        ({"addresses": ("1.0.0.1/1",)}, "wider than /8"),
        ({"addresses": ("127.0.0.2/8",)}, "loopback"),
        ({"addresses": ("224.0.0.5/24",)}, "multicast"),
    ],
)
def test_where_a_server_may_send_from_everywhere_it_is_still_no_default_route(
    fields: dict[str, Any], said: str
) -> None:
    its = settings(*ANYWHERE, accept=("addresses", "routes"))
    with pytest.raises(Unasked, match=said):
        Checks(its).push(messages.Push(**fields))
    if "pieces" in said:
        Checks(replace(its, accept=ALL)).push(messages.Push(**fields))


def test_a_server_is_pushed_nothing_and_a_client_has_no_directory() -> None:
    for ask in (
        lambda: Checks(SERVER).push(messages.Push(mtu=1380)),
        lambda: Checks(SERVER).dns(messages.SetDns()),
        lambda: Checks(SERVER).endpoints(()),
        Checks(SERVER).client,
        lambda: client(*ALL).behind(["10.7.0.0/16"]),
    ):
        with pytest.raises(Unasked):
            ask()
    routed = Checks(replace(SERVER, table="auto"))
    assert routed.behind(["10.7.0.0/16"]) == [ip_network("10.7.0.0/16")]


def test_dns_servers_are_those_of_the_configuration_or_pushed_ones_where_that_is_accepted() -> None:
    configured = client(*ALL, dns=("10.9.0.1",), dns_search=("corp.example",))
    configured.dns(messages.SetDns(servers=("10.9.0.1",), domains=("corp.example",)))
    configured.dns(messages.SetDns())
    pushed = messages.SetDns(servers=("10.9.0.53",), domains=("~lab.example",))
    client("dns").dns(pushed)
    for checks in (configured, client("routes")):
        with pytest.raises(Unasked, match="DNS servers, which accept does not list"):
            checks.dns(pushed)
    with pytest.raises(Unasked):
        client("dns").dns(messages.SetDns(servers=("10.9.0.53; reboot",)))


def test_our_own_packets_go_where_endpoints_are() -> None:
    moved = OuterEndpointText("udp", "198.51.100.7", 1024)
    named = OuterEndpointText("tcp", "2001:db8::1", 443)
    assert len(client().endpoints((moved, named))) == 2
    for other in (OuterEndpointText("tcp", "203.0.113.1", 25), OuterEndpointText("udp", "x", 1)):
        with pytest.raises(Unasked):
            client().endpoints((other,))
    with pytest.raises(Unasked, match="udp, which no endpoint has"):
        client(endpoints=(parse("tcp://203.0.113.1:443"),)).endpoints((moved,))
    with pytest.raises(Unasked):
        outer("10.0.0.0/8")


def test_what_was_asked_by_the_last_settings_may_come_a_moment_after_the_next() -> None:
    asked = messages.Push(routes=("10.7.0.0/16",))
    checks = client("routes")
    for is_allowed in (True, False):
        checks.adopt(settings("192.168.0.0/16", accept=("routes",)))
        if is_allowed:
            checks.push(asked)
        else:
            with pytest.raises(Unasked):
                checks.push(asked)
