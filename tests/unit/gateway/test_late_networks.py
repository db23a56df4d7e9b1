"""Clients get routes to networks that a gateway comes to lead to; a failure ends nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun import log
from fastun.config.push_settings import Pushed
from fastun.errors import RuntimeFailure
from fastun.gateway import late_networks
from fastun.gateway.late_networks import LateNetworks

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.peers.peer import Network

OFFICE, LAB = ip_network("172.16.9.0/24"), ip_network("172.16.10.0/24")


class Server:
    """One whose host leads to the networks that a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, role: str = "serve") -> None:
        self.networks: frozenset[Network] = frozenset({OFFICE})
        self.settings: Any = SettingsOf(role, Pushed(routes=(OFFICE,)))
        self.n_looks = 0
        self.n_asked = 0
        self.error: Exception | None = None
        monkeypatch.setattr(late_networks, "LOOK_S", 0.001)
        monkeypatch.setattr(late_networks, "with_networks", self._with_networks)

    def _with_networks(self, settings: Any, networks: frozenset[Network]) -> Any:
        assert networks == self.networks
        self.n_asked += 1
        routes = tuple(dict.fromkeys((*settings.push.routes, *sorted(self.networks, key=str))))
        return (
            replace(settings, push=Pushed(routes=routes)) if settings.role == "serve" else settings
        )

    async def change(self, settings: Any) -> None:
        if self.error is not None:
            raise self.error
        self.settings = settings

    def look(self) -> None:
        self.n_looks += 1

    async def run(self, *steps: Callable[[], None]) -> None:
        own = cast("Any", self)
        task = asyncio.create_task(LateNetworks(own, own, own).run())
        for step in (*steps, lambda: None):
            await asyncio.sleep(0.05)
            step()
        assert not task.done()
        task.cancel()


@dataclass
class SettingsOf:
    """What of settings is looked at."""

    role: str
    push: Pushed


@pytest.fixture(autouse=True)
def logged() -> None:
    log.configure("console", 0)


def test_a_network_that_comes_is_pushed_and_one_that_goes_is_not_taken_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(monkeypatch)

    def come() -> None:
        server.networks = frozenset({LAB})

    asyncio.run(server.run(come))
    assert server.settings.push.routes == (OFFICE, LAB)
    assert (server.n_looks, server.n_asked) == (1, 2)
    assert "clients get routes to new networks  routes=172.16.10.0/24" in capsys.readouterr().err


def test_a_failure_is_said_and_the_next_network_is_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(monkeypatch)
    server.error = RuntimeFailure("peers.sqlite: locked")

    def come() -> None:
        server.networks = frozenset({OFFICE, LAB})

    def repair() -> None:
        server.error = None
        server.networks = frozenset({LAB})

    asyncio.run(server.run(come, repair))
    assert "cannot give clients routes to new networks" in capsys.readouterr().err
    assert server.settings.push.routes == (OFFICE, LAB)


def test_a_client_gives_no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, role="connect")
    asyncio.run(server.run())
    assert (server.n_looks, server.n_asked) == (0, 1)
