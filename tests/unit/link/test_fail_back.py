"""A client goes back to the endpoint that it prefers, once that has answered for some time."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastun.endpoint import Endpoint
from fastun.link import fail_back
from fastun.link.endpoint_health import EndpointHealth
from fastun.link.fail_back import FailBack
from fastun.session import clock
from tests.support.known_names import KnownNames

HOSTS = [IPv4Address(f"192.0.2.{n}") for n in (1, 2, 3)]
WAIT_S = 60.0


class Client:
    """One on UDP with three endpoints in order, at one of them; it looks each second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, at: int) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(clock, "boottime_s", lambda: self.now_s)
        monkeypatch.setattr(fail_back, "ANSWER_S", 0.0)
        self.at = at
        self.answering = set(HOSTS)
        self.asked: list[tuple[float, IPv4Address]] = []
        self.moves: list[float] = []
        self.health = EndpointHealth()
        peer = SimpleNamespace(
            endpoints=tuple(Endpoint("udp", str(host), 51820) for host in HOSTS),
            endpoint_order="listed",
            fail_back_s=WAIT_S,
        )
        self.link = SimpleNamespace(
            slot=0, slotted=SimpleNamespace(peer=peer), connection=None, transport="udp",
            peer_name="server",
        )  # fmt: skip
        self.probes = SimpleNamespace(ask=self._ask, has_answered=self._has_answered)
        owner = SimpleNamespace(
            links=SimpleNamespace(by_slot={0: self.link}, host_of=lambda _: HOSTS[self.at]),
            outside=SimpleNamespace(names=KnownNames().names(), health=self.health),
            datagrams=SimpleNamespace(probes=self.probes, doubt=self._doubt),
        )
        self.fail_back = FailBack(cast("Any", owner))

    def _ask(self, _: object, place: Any) -> None:
        self.asked.append((self.now_s, place.host))

    def _has_answered(self, _: int) -> bool:
        return self.asked[-1][1] in self.answering

    def _doubt(self, _: int) -> None:
        """Go to the first that answers and is not to be left, as the race of addresses does."""
        fit = [n for n, host in enumerate(HOSTS) if not self.health.is_left(host)]
        self.moves.append(self.now_s)
        self.at = next(n for n in fit if HOSTS[n] in self.answering)

    def pass_s(self, seconds: float) -> None:
        async def looks() -> None:
            for _ in range(round(seconds)):
                self.now_s += 1
                await self.fail_back._look(cast("Any", self.link))  # noqa: SLF001 (a turn of run)

        asyncio.run(looks())


def test_it_goes_back_when_the_preferred_one_has_answered_for_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client(monkeypatch, at=2)
    client.pass_s(3 * WAIT_S)
    (moved_s,) = client.moves
    (first_s, first), (_, second) = client.asked
    assert first == second == HOSTS[0]
    assert WAIT_S <= moved_s - first_s <= WAIT_S + 3
    assert client.at == 0


def test_where_it_is_at_the_preferred_one_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(monkeypatch, at=0)
    client.pass_s(1000)
    assert client.asked == []
    assert client.moves == []


def test_one_that_does_not_answer_is_asked_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client(monkeypatch, at=1)
    client.answering.remove(HOSTS[0])
    client.pass_s(20_000)
    assert client.moves == []
    gaps = [after - before for (before, _), (after, _) in pairwise(client.asked)]
    assert gaps[0] == pytest.approx(WAIT_S, abs=2)
    assert gaps == sorted(gaps)
    assert max(gaps) == pytest.approx(fail_back.PAUSE_MAX_S, abs=2)


def test_one_that_comes_and_goes_has_the_client_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client(monkeypatch, at=0)
    for _ in range(400):  # away for a minute after each time that it has the client
        client.pass_s(60)
        if client.at == 0:
            client.at = 1
    assert 3 <= len(client.moves) <= 14
    gaps = [after - before for before, after in pairwise(client.moves)]
    assert gaps[-1] > 8 * gaps[0]


def test_a_gateway_that_is_drained_is_not_gone_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(monkeypatch, at=1)
    client.health.leave(HOSTS[0], 3600)
    client.pass_s(1000)
    assert client.asked == []


def test_a_client_that_is_not_to_go_back_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(monkeypatch, at=1)
    client.link.slotted.peer.fail_back_s = 0
    links = client.fail_back._owner.links  # noqa: SLF001

    async def some_looks() -> None:
        monkeypatch.setattr(fail_back, "LOOK_INTERVAL_S", 0.001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.fail_back.run()

    asyncio.run(some_looks())
    assert client.asked == []
    assert links.by_slot
