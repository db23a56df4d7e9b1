"""When a tunnel's DNS servers are checked, and what is said of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from fastun import log
from fastun.gateway.dns_checks import DnsChecks
from fastun.host.dns.state import NOTHING, DnsState

SET = DnsState(("10.9.0.1",), ("corp.example",), "file")


class Names:
    """Name servers that are set."""

    def __init__(self) -> None:
        self.state = SET

    def judge(self, fault: str) -> None:
        self.state = replace(self.state, fault=fault, is_checked=True)


class Scene:
    """Checks of a client; each gives the next of ``faults``."""

    def __init__(self) -> None:
        self.names = Names()
        self.links: dict[int, Any] = {0: SimpleNamespace(id=1)}
        self.faults: list[str] = []
        self.n_checked = 0
        self._checks = DnsChecks(self.names, "wg0", self.links, self._fault)  # type: ignore[arg-type]

    def _fault(self, state: DnsState, interface: str) -> str:
        assert (state.servers, interface) == (self.names.state.servers, "wg0")
        self.n_checked += 1
        return self.faults.pop(0) if self.faults else ""

    def say_without(self, n: int, *, takes_all: bool) -> None:
        for _ in range(n):
            self._checks.say_without(takes_all=takes_all)

    def look(self, now: float) -> int:
        """Return how many checks were made so far."""
        asyncio.run(self._checks.look(now))
        return self.n_checked


@pytest.fixture
def scene() -> Scene:
    log.configure("console", 0)
    return Scene()


def test_all_is_checked_once_and_again_with_another_link_or_other_servers(scene: Scene) -> None:
    assert [scene.look(now) for now in (0, 2, 100, 10_000)] == [1, 1, 1, 1]
    assert scene.names.state.is_checked
    scene.links[0] = SimpleNamespace(id=2)
    assert [scene.look(now) for now in (10_002, 10_004)] == [2, 2]
    scene.names.state = replace(SET, servers=("10.9.0.2",))
    assert [scene.look(now) for now in (10_006, 10_008)] == [3, 3]


def test_nothing_is_checked_without_servers_or_without_a_link(scene: Scene) -> None:
    scene.links.clear()
    assert scene.look(0) == 0
    scene.links[0] = SimpleNamespace(id=1)
    scene.names.state = NOTHING
    assert scene.look(2) == 0


def test_a_fault_is_said_once_and_checked_ever_more_rarely_until_it_is_gone(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.faults = ["10.9.0.1 does not answer"] * 5
    checked = [now for now in range(0, 400, 2) if scene.n_checked < scene.look(now)]
    assert checked == [0, 6, 36, 96, 156, 216]
    assert scene.names.state.fault == ""
    said = capsys.readouterr().err
    assert said.count("DNS does not work  ") == 1
    assert said.count("DNS works  ") == 1


def test_a_full_tunnel_without_dns_servers_is_said_once_they_had_time_to_come(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "everything goes through the tunnel, but it has no DNS servers"
    scene.say_without(3, takes_all=True)
    scene.names.state = NOTHING
    scene.say_without(2, takes_all=True)
    scene.say_without(3, takes_all=False)
    links, scene.links[0] = dict(scene.links), SimpleNamespace(id=2)
    scene.links.clear()
    scene.say_without(3, takes_all=True)
    assert capsys.readouterr().err == ""
    scene.links.update(links)
    scene.say_without(9, takes_all=True)
    assert capsys.readouterr().err.count(said) == 1


def test_a_result_of_servers_that_are_not_set_any_more_is_dropped(scene: Scene) -> None:
    def fault(*_: object) -> str:
        scene.names.state = NOTHING
        return "10.9.0.1 does not answer"

    scene._checks._fault = fault  # noqa: SLF001 (what happens meanwhile)
    scene.look(0)
    assert scene.names.state == NOTHING
