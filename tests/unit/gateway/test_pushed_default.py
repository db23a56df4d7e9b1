"""A default route that a server pushes: taken where it is accepted, as long as it is pushed."""

from __future__ import annotations

import asyncio
import dataclasses
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
    from fastun.config.push_settings import Accept
    from fastun.host.device import Device


class Taken:
    """A device; `all` has whether it was to take everything, push by push."""

    def __init__(self) -> None:
        self.inner_mtu = InnerMtu(1420)
        self.all: list[bool] = []

    def apply(self, *_: Any, takes_all: bool) -> Applied:
        self.all.append(takes_all)
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
