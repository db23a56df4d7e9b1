"""Peers on UDP that are known by a name: what is sent while DNS is late, and after."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from fastun.endpoint import Endpoint
from fastun.host.dns.resolved import NotYetError
from fastun.link import names as names_module
from fastun.peers.peer import Peer
from tests.support.datagram_pair import Side, names_resolved, run
from tests.support.parties import CLIENT, SERVER

if TYPE_CHECKING:
    from types import SimpleNamespace

pytestmark = pytest.mark.usefixtures("now")

NAMED = Peer(
    name="site", public_key=SERVER.public, endpoints=(Endpoint("udp", "site.example", 51820),)
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "RETRY_S", 0.0)


@pytest.mark.parametrize("role", ["serve", "connect"])
def test_a_peer_whose_name_resolves_after_minutes_is_tried_then(
    role: str, now: SimpleNamespace
) -> None:
    async def claim() -> None:
        side = Side(role, CLIENT, "192.0.2.1", NAMED)
        side.dns.answers["site.example"] = NotYetError("no DNS")
        side.sessions.begin(0)
        for _ in range(60):
            await names_resolved(0)
            now.s += 5
            side.sessions.tick()
        assert side.sockets.sent == []
        side.dns.answers["site.example"] = ["192.0.2.2"]
        for _ in range(2):
            await names_resolved(0)
            now.s += 6
            side.sessions.tick()
        await names_resolved(0)
        assert {str(address.host) for _, address in side.sockets.sent} == {"192.0.2.2"}

    run(claim())


def test_while_a_lookup_lasts_no_second_initiation_waits_for_it(now: SimpleNamespace) -> None:
    async def claim() -> None:
        side = Side("connect", CLIENT, "192.0.2.1", NAMED)
        side.dns.answers["site.example"] = ["192.0.2.2"]
        answered = threading.Event()
        side.dns.meanwhile = lambda: answered.wait(30)
        side.sessions.begin(0)
        for _ in range(3):
            await asyncio.sleep(0.02)
            now.s += 6
            side.sessions.tick()
        assert side.sockets.sent == []
        answered.set()
        await names_resolved()
        assert len(side.sockets.sent) == 1

    run(claim())
