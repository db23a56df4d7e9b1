"""A client on UDP that goes from one gateway to another, and one that asks whether one answers."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import pytest

from fastun.endpoint import Endpoint
from fastun.host.sockets.address import EndpointAddress
from fastun.lane.endpoint_messages import SetEndpoint
from fastun.link.datagram import goodbye
from fastun.peers.peer import Peer
from tests.support.datagram_pair import SERVER_AS_PEER, Side, names_resolved, run
from tests.support.parties import CLIENT, SERVER

if TYPE_CHECKING:
    from types import SimpleNamespace

    from fastun.native import UdpAddress

pytestmark = pytest.mark.usefixtures("now")

A, B = "192.0.2.2", "192.0.2.3"


class Fleet:
    """A client, and two gateways with one key that know it."""

    def __init__(self) -> None:
        endpoints = tuple(Endpoint("udp", host, 51820) for host in (A, B))
        server = dataclasses.replace(SERVER_AS_PEER, endpoints=endpoints)
        self.client = Side("connect", CLIENT, "192.0.2.1", server)
        ant = Peer(name="ant", public_key=CLIENT.public)
        self.gateways = {host: Side("serve", SERVER, host, ant) for host in (A, B)}
        self.lost: list[tuple[bytes, UdpAddress]] = []
        self.is_down: set[str] = set()

    async def settle(self, *, n_rounds: int = 16, at_least_s: float = 0.002) -> None:
        """Carry datagrams to and fro until there are none."""
        for _ in range(n_rounds):
            await asyncio.sleep(at_least_s)
            self.client.work()
            for message, to in [self.client.sockets.sent.pop(0) for _ in self.sent(self.client)]:
                if str(to.host) not in self.is_down:
                    self.gateways[str(to.host)].take_in(message, self.client.address)
            for gateway in self.gateways.values():
                gateway.work()
                for message, _ in [gateway.sockets.sent.pop(0) for _ in self.sent(gateway)]:
                    self.client.take_in(message, gateway.address)

    @staticmethod
    def sent(side: Side) -> list[tuple[bytes, UdpAddress]]:
        return list(side.sockets.sent)

    async def begin(self) -> None:
        self.client.sessions.begin(0)
        await self.settle()
        assert self.at() == [A]

    def at(self) -> list[str]:
        return [host for host, gateway in self.gateways.items() if gateway.links.by_slot]


def test_a_client_has_its_new_session_before_it_leaves_and_says_so_in_the_old_one(
    now: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(goodbye, "ELSEWHERE_AFTER_S", 0.2)

    async def claim() -> None:
        fleet = Fleet()
        await fleet.begin()
        link = fleet.client.links.by_slot[0]
        fleet.client.commands_of(SetEndpoint)
        now.s += 10
        fleet.client.health.leave(fleet.gateways[A].address.host, 60)
        fleet.client.sessions.doubt(0)
        await fleet.settle()
        assert fleet.at() == [A, B]
        assert fleet.client.links.by_slot[0] is link
        moved = fleet.client.commands_of(SetEndpoint)[-1]
        assert moved.endpoint == fleet.gateways[B].address.pack()
        assert moved.only_by == list(fleet.client.receiving)[-1]
        await fleet.settle(at_least_s=0.02)
        assert fleet.at() == [B]
        # It is not called back by what still comes for it.
        fleet.gateways[A].sessions.begin(0)
        await names_resolved()
        assert fleet.gateways[A].sockets.sent == []

    run(claim())


def test_a_client_whose_other_gateways_do_not_answer_stays(now: SimpleNamespace) -> None:
    async def claim() -> None:
        fleet = Fleet()
        await fleet.begin()
        now.s += 10
        fleet.is_down.add(B)
        fleet.client.health.leave(fleet.gateways[A].address.host, 60)
        fleet.client.sessions.doubt(0)
        await fleet.settle(n_rounds=60, at_least_s=0.02)  # a step of the race is half a second
        assert fleet.at() == [A]
        assert 0 in fleet.client.links.by_slot

    run(claim())


def test_a_gateway_is_asked_whether_it_answers_and_moves_nothing(now: SimpleNamespace) -> None:
    async def claim() -> None:
        fleet = Fleet()
        await fleet.begin()
        now.s += 10
        slotted = fleet.client.peer_slots.by_slot[0]
        place = EndpointAddress(fleet.gateways[B].address.host, 51820, 0)
        current = list(fleet.client.receiving)
        fleet.client.sessions.probes.ask(slotted, place)
        await fleet.settle()
        assert fleet.client.sessions.probes.has_answered(0)
        assert not fleet.client.sessions.probes.has_answered(0)
        assert fleet.at() == [A]
        assert list(fleet.client.receiving) == current
        now.s += 30
        fleet.is_down.add(B)
        fleet.client.sessions.probes.ask(slotted, place)
        await fleet.settle()
        assert not fleet.client.sessions.probes.has_answered(0)

    run(claim())
