"""What a client accepts of pushes changes while it runs."""

from __future__ import annotations

import asyncio
import dataclasses
from types import SimpleNamespace
from typing import Any, cast

from fastun.config.push import Push
from fastun.config.settings import Options, Settings, load
from fastun.gateway.pushed_settings import PushedSettings
from fastun.host.inner_mtu import InnerMtu
from fastun.host.wanted import Applied
from fastun.peers.peer import Peer

PUSH = Push(routes=("10.9.0.0/24",), dns=("10.9.0.1",), mtu=1400, keepalive=25)


def settings(**fields: Any) -> Settings:
    plain = load("connect", "tcp://server", Options(wire="plain", insecure=True))
    network = load("serve", None, Options(address=("10.0.0.1/8",))).addresses[0].network
    server = Peer(name="server", public_key=bytes(32), allowed_ips=(network,))
    return dataclasses.replace(plain, **{"peers": (server,), "accept": ("routes", "mtu")} | fields)


class Client:
    """A client, and what its device was last given."""

    def __init__(self) -> None:
        self.routes: list[str] = []
        self.mtu = 0
        self.dns: list[tuple[str, ...]] = []
        self.keepalive: dict[str, int] = {}
        device = SimpleNamespace(
            inner_mtu=InnerMtu(1420),
            apply=self._apply,
            apply_dns=lambda servers, _: self.dns.append(servers),
        )
        self.pushed = PushedSettings(
            settings(), cast("Any", device), lambda peer, s: self.keepalive.update({peer.name: s})
        )
        self.pushed.take("server", PUSH)
        asyncio.run(self.pushed.apply())

    def _apply(
        self, _: object, routes: Any, mtu: int, __: object, *, takes_all: bool = False
    ) -> Applied:
        assert not takes_all
        self.routes, self.mtu = list(map(str, routes)), mtu
        return Applied(mtu or 1420)

    def change(self, **fields: Any) -> None:
        asyncio.run(self.pushed.change(settings(**fields)))


def test_what_is_not_accepted_any_more_is_taken_back_and_comes_again() -> None:
    client = Client()
    assert (client.routes, client.mtu, client.keepalive) == (["10.9.0.0/24"], 1400, {"server": 0})
    client.change(accept=("keepalive",))
    assert (client.routes, client.mtu, client.keepalive) == ([], 0, {"server": 25})
    client.change(accept=("routes",))
    assert (client.routes, client.mtu) == (["10.9.0.0/24"], 0)


def test_a_server_with_another_name_is_the_same_and_one_with_another_key_is_not() -> None:
    client = Client()
    (server,) = settings().peers
    client.change(peers=(dataclasses.replace(server, name="office"),))
    assert client.routes == ["10.9.0.0/24"]
    client.change(peers=(dataclasses.replace(server, name="office", public_key=bytes([1] * 32)),))
    assert client.routes == []


def test_dns_is_the_configured_one_or_the_pushed_one_or_none() -> None:
    client = Client()
    client.change(dns=("192.0.2.53",))
    assert client.dns == [("192.0.2.53",)]
    client.change(accept=("dns",))
    assert client.dns[-1] == ("10.9.0.1",)
    client.change(accept=())
    assert client.dns[-1] == ()
    n_changes = len(client.dns)
    client.change(accept=("routes",))
    assert len(client.dns) == n_changes, "DNS has not changed"
