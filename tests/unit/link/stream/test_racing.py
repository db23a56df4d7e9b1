"""Which address is connected to: all are tried, soon after one another, and the first wins."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from fastun.endpoint import Endpoint
from fastun.host.dns.resolved import NoSuchNameError, UnresolvedError
from fastun.host.sockets.address import EndpointAddress
from fastun.link.stream import racing, sockets
from fastun.link.stream.racing import Candidate, NotConnectedError
from tests.support.inside_of import DEVICE, Routes
from tests.support.known_names import KnownNames, outside
from tests.support.stream_owner import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.link.outside import Outside

NAME = Endpoint("tcp", "vpn", 443)


def candidate(host: str, port: int = 443) -> Candidate:
    return Candidate(NAME, EndpointAddress(ip_address(host), port, 0))


class Network:
    """Stands for the hosts: after how long each connects or refuses; others never answer."""

    def __init__(self) -> None:
        self.connects: dict[str, float] = {}
        self.refuses: dict[str, float] = {}
        self.dialled: list[tuple[str, float]] = []
        self.made: list[socket.socket] = []

    async def dial(self, to: EndpointAddress, _: Outside) -> socket.socket:
        host = str(to.host)
        self.dialled.append((host, time.monotonic()))
        if host in self.refuses:
            await asyncio.sleep(self.refuses[host])
            raise ConnectionRefusedError(111, "Connect call failed")
        await asyncio.sleep(self.connects.get(host, 60))
        self.made.append(socket.socket())
        return self.made[-1]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    found = Network()
    monkeypatch.setattr(sockets, "dial", found.dial)
    monkeypatch.setattr(racing, "NEXT_AFTER_S", 0.05)
    yield found
    for each in found.made:
        each.close()


async def first_of(*hosts: str) -> str:
    found = [candidate(host) for host in hosts]
    tried, _ = await racing.first_connected(found, outside(Routes().inside()))
    return str(tried.address.host)


def test_a_dead_address_costs_a_quarter_of_a_second_at_most(network: Network) -> None:
    network.connects["192.0.2.1"] = 0.0

    async def claim() -> None:
        begun_s = time.monotonic()
        assert await first_of("2001:db8::1", "192.0.2.1") == "192.0.2.1"
        assert 0.05 <= time.monotonic() - begun_s < 0.5

    run(claim())


def test_one_that_refuses_does_not_delay_the_next(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(racing, "NEXT_AFTER_S", 60)
    network.refuses["192.0.2.1"] = network.connects["192.0.2.2"] = 0.0
    run(_expect("192.0.2.2", "192.0.2.1", "192.0.2.2"))


async def _expect(winner: str, *hosts: str) -> None:
    assert await first_of(*hosts) == winner


def test_the_first_that_connects_wins_and_the_losers_are_closed(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(racing, "NEXT_AFTER_S", 0.01)
    hosts = [f"192.0.2.{n}" for n in range(1, 5)]
    network.connects = dict.fromkeys(hosts[1:], 0.1) | {hosts[3]: 0.0}

    async def claim() -> None:
        tried, connection = await racing.first_connected(
            [candidate(host) for host in hosts], outside(Routes().inside())
        )
        assert str(tried.address.host) == hosts[3]
        assert connection.fileno() >= 0
        assert [each.fileno() for each in network.made if each is not connection] in ([], [-1])
        await asyncio.sleep(0.2)
        assert [each for each in network.made if each.fileno() >= 0] == [connection]

    run(claim())


def test_two_that_connect_at_the_same_moment_leave_one(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(racing, "NEXT_AFTER_S", 0.0)
    network.connects = {"192.0.2.1": 0.05, "192.0.2.2": 0.05}

    async def claim() -> None:
        await first_of(*network.connects)
        await asyncio.sleep(0.1)
        assert len([each for each in network.made if each.fileno() >= 0]) == 1

    run(claim())


def test_a_round_without_success_has_tried_each_once_and_says_why_for_each(
    network: Network,
) -> None:
    hosts = [f"192.0.2.{n}" for n in range(1, 7)]
    network.refuses = dict.fromkeys(hosts, 0.01)

    async def claim() -> None:
        with pytest.raises(NotConnectedError) as caught:
            await first_of(*hosts)
        text = str(caught.value)
        assert text.startswith("192.0.2.1:443: Connection refused; 192.0.2.2:443: ")
        assert text.endswith("; 2 more addresses failed")

    run(claim())
    assert [host for host, _ in network.dialled] == hosts


def test_a_dialler_that_is_stopped_leaves_no_connection(network: Network) -> None:
    network.connects["192.0.2.1"] = 0.02

    async def claim() -> None:
        task = asyncio.create_task(first_of("192.0.2.1"))
        await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)
        assert all(each.fileno() == -1 for each in network.made)

    run(claim())


def test_what_leads_into_the_tunnel_is_not_dialled_but_the_next_is() -> None:
    routes = Routes()
    routes.to["127.0.0.2"] = DEVICE

    async def claim() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            found = [candidate("127.0.0.2", port), candidate("127.0.0.1", port)]
            tried, connection = await racing.first_connected(found, outside(routes.inside()))
            connection.close()
            assert tried is found[1]
            with pytest.raises(NotConnectedError) as caught:
                await racing.first_connected(found[:1], outside(routes.inside()))
            assert caught.value.inside() == found[:1]

    run(claim())


# -- what there is to dial --------------------------------------------------------------------


def hosts_of(found: list[Candidate]) -> list[str]:
    return [str(each.address.host) for each in found]


def test_the_families_take_turns_and_each_address_is_there_once() -> None:
    dns = KnownNames(
        vpn=["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"],
        other=["192.0.2.1", "192.0.2.2"],
    )

    async def claim() -> None:
        found = await racing.candidates((NAME, Endpoint("tcp", "other", 443)), dns.names())
        assert hosts_of(found) == [
            *("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3")
        ]

    run(claim())


def test_a_name_that_hangs_does_not_delay_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(racing, "NEXT_AFTER_S", 0.05)
    dns = KnownNames(vpn=["192.0.2.9"])
    dns.meanwhile = lambda: time.sleep(0.5)

    async def claim() -> None:
        begun_s = time.monotonic()
        found = await racing.candidates((NAME, Endpoint("tcp", "192.0.2.1", 443)), dns.names())
        assert hosts_of(found) == ["192.0.2.1"]
        assert time.monotonic() - begun_s < 0.4

    run(claim())


@pytest.mark.parametrize("n_wrong", [1, 2])
def test_a_name_that_does_not_exist_is_an_error_only_where_there_is_nothing_else(
    n_wrong: int,
) -> None:
    answers: dict[str, Any] = {"vpn": NoSuchNameError("no such name")}
    answers["other"] = NoSuchNameError("no such name") if n_wrong == 2 else ["192.0.2.1"]

    async def claim() -> None:
        work = racing.candidates(
            (NAME, Endpoint("tcp", "other", 443)), KnownNames(**answers).names()
        )
        if n_wrong == 1:
            assert hosts_of(await work) == ["192.0.2.1"]
        else:
            with pytest.raises(UnresolvedError):
                await work

    run(claim())
