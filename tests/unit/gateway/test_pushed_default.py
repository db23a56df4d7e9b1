"""A default route that a server pushes: taken where it is accepted, as long as it is pushed."""

from __future__ import annotations

import asyncio
import dataclasses
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun import log
from fastun.config.push import Push
from fastun.config.settings import Options, load
from fastun.gateway.pushed_settings import PushedSettings
from fastun.host.inner_mtu import InnerMtu
from fastun.host.wanted import Applied
from fastun.peers.peer import Peer

if TYPE_CHECKING:
    from fastun.config.vocabulary import Accept
    from fastun.host.device import Device


class Taken:
    """A device; `all` has whether it was to take everything, push by push."""

    def __init__(self) -> None:
        self.inner_mtu = InnerMtu(1420)
        self.all: list[bool] = []
        self.routes: list[str] = []
        self.addresses: list[str] = []

    def apply(self, addresses: Any, routes: Any, *_: Any, takes_all: bool) -> Applied:
        self.all.append(takes_all)
        self.addresses = list(map(str, addresses))
        self.routes = list(map(str, routes))
        return Applied(1420)


@pytest.mark.parametrize(
    ("accept", "table", "is_taken", "is_said"),
    [
        (("default",), "off", True, False),
        (("routes",), "off", False, True),
        (("routes",), "all", False, False),  # it has all anyway
    ],
)
def test_a_pushed_default_route_is_taken_where_it_is_accepted(
    accept: tuple[Accept, ...],
    table: Any,
    is_taken: bool,
    is_said: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("console", 0)
    plain = load("connect", "tcp://server", Options(wire="plain", insecure=True))
    server = Peer(name="server", public_key=bytes(32))
    settings = dataclasses.replace(plain, peers=(server,), accept=accept, table=table)
    device = Taken()
    pushed = PushedSettings(settings, cast("Device", device), lambda *_: None)
    for push in (Push(), Push(default=True), Push(default=True), Push()):
        pushed.take("server", push)
        asyncio.run(pushed.apply())
    assert device.all == [False, is_taken, is_taken, False]
    said = "the server pushes a default route; not applied: accept does not list default"
    assert capsys.readouterr().err.count(said) == is_said


EVERYTHING = ("0.0.0.0/0", "::/0")
OFFICE = ("10.9.0.0/24", "198.51.100.0/24", "fd00:9::/64", "2001:db8::/32")


@pytest.mark.parametrize(
    "pieces",
    [
        EVERYTHING,
        ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"),
        tuple(f"{n}.0.0.0/8" for n in range(1, 224)),  # none of them wide
        ("2000::/3",),
        ("2000::/4", "3000::/4"),
    ],
)
@pytest.mark.parametrize("accept", [("routes",), ("routes", "default")])
def test_a_default_route_does_not_come_in_pieces_among_the_routes(
    pieces: tuple[str, ...], accept: tuple[Accept, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("console", 0)
    plain = load("connect", "tcp://server", Options(wire="plain", insecure=True))
    networks = tuple(map(ip_network, EVERYTHING))
    server = Peer(name="server", public_key=bytes(32), allowed_ips=networks)
    settings = dataclasses.replace(plain, peers=(server,), accept=accept)
    device = Taken()
    pushed = PushedSettings(settings, cast("Device", device), lambda *_: None)
    pushed.take("server", Push(routes=(*pieces, *OFFICE)))
    asyncio.run(pushed.apply())
    said = "the server pushes a default route; not applied: accept does not list default"
    if "default" in accept:
        assert device.routes == [*pieces, *OFFICE]
        assert said not in capsys.readouterr().err
        return
    assert [*OFFICE] == [each for each in device.routes if each in OFFICE]
    spaces = {4: 0.0, 6: 0.0}
    for network in map(ip_network, device.routes):
        spaces[network.version] += network.num_addresses / 2**network.max_prefixlen
    assert spaces[4] < 1 / 2
    assert spaces[6] < 1 / 16
    assert said in capsys.readouterr().err


def taking(*servers: str, accept: tuple[Accept, ...]) -> tuple[PushedSettings, Taken]:
    """What takes the pushes of these servers, which may send from everywhere."""
    log.configure("console", 0)
    plain = load("connect", "tcp://server", Options(wire="plain", insecure=True))
    networks = tuple(map(ip_network, EVERYTHING))
    peers = tuple(
        Peer(name=name, public_key=name.encode().ljust(32), allowed_ips=networks)
        for name in servers
    )
    device = Taken()
    settings = dataclasses.replace(plain, peers=peers, accept=accept)
    return PushedSettings(settings, cast("Device", device), lambda *_: None), device


def test_nor_does_it_come_in_pieces_of_two_servers() -> None:
    pushed, device = taking("one", "two", accept=("routes",))
    pushed.take("one", Push(routes=("0.0.0.0/2", "64.0.0.0/3", "10.9.0.0/24")))
    pushed.take("two", Push(routes=("128.0.0.0/2", "192.0.0.0/3", "10.9.0.0/24")))
    asyncio.run(pushed.apply())
    assert device.routes == ["64.0.0.0/3", "10.9.0.0/24", "192.0.0.0/3"]


# Each brings a route to its network, and together they are the internet of IPv6: 2000::/3.
INTERNET = tuple(f"{0x2000 + (n << 8):x}::1/8" for n in range(32))


@pytest.mark.parametrize("accept", [("addresses",), ("addresses", "routes")])
def test_nor_does_it_come_in_pieces_among_the_addresses(
    accept: tuple[Accept, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    pushed, device = taking("server", accept=accept)
    pushed.take("server", Push(addresses=(*INTERNET, "fd00:9::2/64", "10.9.0.2/24")))
    asyncio.run(pushed.apply())
    n_addresses = sum(ip_interface(each).network.num_addresses for each in device.addresses)
    assert n_addresses < 1 << 124
    assert device.addresses[-2:] == ["fd00:9::2/64", "10.9.0.2/24"]
    assert "with what else is pushed, a default route" in capsys.readouterr().err


def test_where_a_default_route_is_accepted_it_may_come_like_that_as_well() -> None:
    pushed, device = taking("server", accept=("addresses", "default"))
    pushed.take("server", Push(addresses=INTERNET))
    asyncio.run(pushed.apply())
    assert device.addresses == [*INTERNET]
