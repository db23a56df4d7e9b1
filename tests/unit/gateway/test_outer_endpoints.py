"""Where a client's own packets may go: what its endpoints' names have, and where its links lead."""

from __future__ import annotations

import asyncio
import contextlib
import time
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastun.endpoint import parse
from fastun.gateway import outer_endpoints
from fastun.gateway.outer_endpoints import OuterEndpoints
from fastun.host.routing.outer_addresses import OuterEndpoint

LITERAL, NAMED = ip_address("192.0.2.1"), ip_address("2001:db8::1")
MOVED, STREAM = ip_address("198.51.100.7"), ip_address("203.0.113.7")


class Switch:
    """A kill switch that notes what it is to follow."""

    is_on = True
    turned_on = SimpleNamespace(wait=lambda: asyncio.sleep(0))

    def __init__(self) -> None:
        self.followed: list[object] = []
        self.now: object = None

    def follows(self, endpoints: object) -> bool:
        return self.now == endpoints

    def follow(self, endpoints: object) -> None:
        self.now = endpoints
        self.followed.append(endpoints)


def sender(switch: Switch | None) -> Any:
    endpoints = parse("udp://192.0.2.1:51820"), parse("tcp://vpn.example.net:443")
    known = {
        endpoints[0]: (SimpleNamespace(host=LITERAL, port=51820),),
        endpoints[1]: (SimpleNamespace(host=NAMED, port=443),),
    }
    names = SimpleNamespace(known=known.__getitem__, hosts=lambda but: {NAMED} - set(but))
    stream = SimpleNamespace(getpeername=lambda: ("::ffff:203.0.113.7", 443, 0, 0))
    placed: list[int] = []

    async def place_outer() -> None:
        placed.append(len(switch.followed) if switch else 0)

    return SimpleNamespace(
        settings=SimpleNamespace(role="connect", endpoints=endpoints),
        lanes=SimpleNamespace(
            udp=SimpleNamespace(
                peers=SimpleNamespace(
                    endpoint=lambda slot: SimpleNamespace(host=MOVED, port=1000 + slot)
                )
            )
        ),
        links=SimpleNamespace(
            by_slot={0: SimpleNamespace(connection=stream), 1: SimpleNamespace(connection=None)}
        ),
        outside=SimpleNamespace(
            names=names, inside=SimpleNamespace(kept_out=set()), kill_switch=switch
        ),
        datagrams=SimpleNamespace(addresses=lambda: {MOVED}),
        pushed_settings=SimpleNamespace(place_outer=place_outer),
        placed=placed,
    )


def test_endpoints_are_those_of_names_and_of_links_with_protocol_and_port() -> None:
    assert OuterEndpoints(cast("Any", sender(None))).endpoints() == {
        OuterEndpoint("udp", LITERAL, 51820),
        OuterEndpoint("tcp", NAMED, 443),
        OuterEndpoint("tcp", STREAM, 443),
        OuterEndpoint("udp", MOVED, 1001),
    }


def test_addresses_are_those_without_protocol() -> None:
    assert OuterEndpoints(sender(None)).addresses() == {NAMED, MOVED, STREAM}


def test_a_kill_switch_lets_new_addresses_pass_before_routes_are_placed() -> None:
    switch = Switch()
    gateway = sender(switch)
    asyncio.run(OuterEndpoints(gateway).place())
    assert gateway.placed == [1]


def test_a_peer_that_moves_is_followed_and_what_is_as_before_costs_nothing() -> None:
    switch = Switch()
    gateway = sender(switch)
    outer = OuterEndpoints(gateway)

    async def moves() -> None:
        for _ in range(3):
            await outer.place()
        gateway.links.by_slot[2] = SimpleNamespace(connection=None)
        await outer.place()

    asyncio.run(moves())
    assert len(switch.followed) == 2


def test_a_server_that_moves_all_the_time_costs_a_few_tables_and_its_last_place_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outer_endpoints, "LOOK_INTERVAL_S", 0.001)
    monkeypatch.setattr(outer_endpoints, "FOLLOWED_PER_SECOND", 50)
    switch = Switch()
    gateway = sender(switch)
    outer = OuterEndpoints(gateway)

    async def moves() -> None:
        running = asyncio.create_task(outer.run())
        for n in range(200):
            gateway.links.by_slot = {n + 10: SimpleNamespace(connection=None)}
            await asyncio.sleep(0.001)
        began_s = time.monotonic()
        while switch.followed[-1] != outer.endpoints():
            assert time.monotonic() - began_s < 10
            await asyncio.sleep(0.001)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    began_s = time.monotonic()
    asyncio.run(moves())
    lasted_s = time.monotonic() - began_s
    assert len(switch.followed) <= outer_endpoints.FOLLOWED_BURST + 50 * lasted_s + 1


def test_without_a_kill_switch_nothing_is_followed() -> None:
    gateway = sender(None)
    asyncio.run(OuterEndpoints(gateway).place())
    asyncio.run(OuterEndpoints(gateway).run())
    assert gateway.placed == [0]
