"""The addresses that one handshake goes to, and what becomes of the copies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog

from fastun.endpoint import Endpoint
from fastun.host.dns.resolved import NotYetError
from fastun.link.datagram import initiator
from fastun.link.datagram.address_race import AddressRace
from fastun.link.datagram.peer import PeerPort
from fastun.link.endpoint_health import EndpointHealth
from fastun.native import UdpAddress
from fastun.session.refusal import Refusal
from tests.support.datagram_pair import SERVER_AS_PEER, Pair, Side, Sockets, names_resolved, run
from tests.support.known_names import KnownNames
from tests.support.parties import CLIENT

if TYPE_CHECKING:
    from fastun.host.dns.resolved import UnresolvedError
    from fastun.link.datagram.peer import UdpPeer

A, B, C, HEARD = "192.0.2.1", "2001:db8::1", "192.0.2.3", "192.0.2.9"
PORT = 51820


def tried(
    n: int,
    *endpoints: str,
    heard: UdpAddress | None = None,
    socket_index: int | None = None,
    health: EndpointHealth | None = None,
    order: str = "listed",
    **dns: list[str] | UnresolvedError,
) -> list[UdpAddress]:
    """Return the addresses of the nth handshake since the last answer."""
    urls = [Endpoint("udp", host, PORT) for host in endpoints]
    peer = SimpleNamespace(endpoints=urls, endpoint_order=order)
    udp_peer = SimpleNamespace(
        slotted=SimpleNamespace(peer=peer),
        address=heard,
        is_guess=False,
        port=PeerPort(socket_index=socket_index),
    )

    async def all_of() -> list[UdpAddress]:
        names = KnownNames(**dns).names()
        race = AddressRace(names, health or EndpointHealth(), cast("Any", Sockets()))
        return [each async for each in race.addresses(cast("UdpPeer", udp_peer), n)]

    return asyncio.run(all_of())


def hosts(addresses: list[UdpAddress]) -> list[str]:
    return [str(address.host) for address in addresses]


def heard_at(host: str) -> UdpAddress:
    return UdpAddress(ip_address(host), PORT, local=ip_address("198.51.100.1"), local_zone=3)


def test_all_addresses_are_tried_each_once_and_the_next_time_in_another_order() -> None:
    assert hosts(tried(0, "vpn", C, vpn=[B, A, C])) in ([C, B, A], [B, A, C])
    orders = {tuple(hosts(tried(n, "vpn", vpn=[B, A]))) for n in range(4)}
    assert orders == {(A, B), (B, A)}
    assert [hosts(tried(n, A, C)) for n in range(3)] == [[A, C], [C, A], [A, C]]


def test_where_it_was_heard_comes_first_with_our_source_and_then_last_without() -> None:
    for n, expected in ((0, [HEARD, A]), (1, [A, HEARD]), (2, [HEARD, A])):
        found = tried(n, A, heard=heard_at(HEARD))
        assert hosts(found) == expected
        sources = [each.local for each in found if str(each.host) == HEARD]
        assert sources == [None if n % 2 else ip_address("198.51.100.1")]


def test_a_peer_that_only_calls_us_is_tried_where_it_was_heard() -> None:
    assert tried(0, heard=heard_at(HEARD)) == [heard_at(HEARD)]
    assert tried(1, heard=heard_at(HEARD)) == [heard_at(HEARD).without_source()]
    assert tried(0) == []


def test_another_source_port_holds_for_all_addresses() -> None:
    found = tried(0, A, heard=heard_at(HEARD), socket_index=2)
    assert [(str(each.host), each.socket_index, each.local) for each in found] == [
        (HEARD, 2, None),
        (A, 2, None),
    ]


def test_a_name_that_does_not_resolve_keeps_none_of_the_others_back() -> None:
    late = NotYetError("no answer from DNS")
    assert hosts(tried(0, "vpn", A, vpn=late)) == [A]
    assert hosts(tried(0, "vpn", heard=heard_at(HEARD), vpn=late)) == [HEARD]
    with pytest.raises(NotYetError):
        tried(0, "vpn", vpn=late)


# -- copies -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initiator, "STEP_S", 0.01)


def client_of(*hosts_of_server: str) -> Side:
    endpoints = tuple(Endpoint("udp", host, PORT) for host in hosts_of_server)
    return Side("connect", CLIENT, "192.0.2.1", replace(SERVER_AS_PEER, endpoints=endpoints))


@pytest.mark.usefixtures("now")
def test_all_copies_are_one_initiation_and_give_one_session() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client = client_of("192.0.2.2", "192.0.2.3")
        pair.client.sessions.begin(0)
        await names_resolved()
        (first, to_first), (second, to_second) = pair.client.sockets.sent
        assert first == second
        assert to_first.host != to_second.host
        await pair.settle()
        assert pair.client.results() == {"ok": 1}
        assert pair.server.results() == {"ok": 1, str(Refusal.REPLAYED_TIMESTAMP): 1}
        assert len(pair.server.receiving) == 1

    run(claim())


@pytest.mark.usefixtures("now")
def test_an_answer_keeps_the_other_copies_back() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client = client_of("192.0.2.2", "192.0.2.3", "192.0.2.4")
        pair.client.sessions.begin(0)
        for _ in range(10):  # less than a step
            await asyncio.sleep(0)
        initiation = pair.client.sent()
        await pair.server.answer(initiation, pair.client.address)
        await pair.client.answer(pair.server.sent(), pair.server.address)
        pair.client.sockets.sent.clear()
        await asyncio.sleep(0.1)
        assert pair.client.sockets.sent == []

    run(claim())


class Half(Sockets):
    """A host without a route to some addresses."""

    def __init__(self, *unreachable: str) -> None:
        super().__init__()
        self.unreachable = unreachable

    def send(self, message: bytes, to: UdpAddress) -> None:
        if str(to.host) in self.unreachable:
            raise OSError(101, "Network is unreachable")
        super().send(message, to)


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize(("unreachable", "is_said"), [((A,), False), ((A, C), True)])
def test_an_address_without_a_route_is_said_only_when_there_is_no_other(
    unreachable: tuple[str, ...], is_said: bool
) -> None:
    async def claim() -> None:
        client = client_of(A, C)
        half = Half(*unreachable)
        client.sockets.send = half.send  # type: ignore[method-assign]
        with structlog.testing.capture_logs() as lines:
            client.sessions.begin(0)
            await names_resolved()
        assert len(half.sent) == (not is_said)
        said = [line for line in lines if line["event"] == "cannot reach"]
        assert len(said) == is_said

    run(claim())
