"""What a server pushes and the configuration does not accept is said, and not applied."""

from __future__ import annotations

import asyncio
import dataclasses
from ipaddress import ip_interface
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import structlog
from msgspec import structs

from fastun import log
from fastun.config.push import Push
from fastun.config.settings import Options, load
from fastun.gateway.pushed_settings import PushedSettings
from fastun.host.inner_mtu import InnerMtu
from fastun.host.wanted import Applied
from fastun.peers.peer import Peer

if TYPE_CHECKING:
    import pytest

    from fastun.host.device import Device

PUSH = Push(addresses=("10.9.0.2/24",), routes=("10.7.0.0/16",), dns=("10.7.0.1",), mtu=1400)


def test_what_is_pushed_and_not_accepted_is_a_line_a_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("console", 0)
    device = SimpleNamespace(inner_mtu=InnerMtu(1420), apply=lambda *_, **__: Applied(1400))
    client = dataclasses.replace(
        load("connect", "tcp://server", Options(wire="plain", insecure=True)),
        peers=(Peer(name="server", public_key=bytes(32)),),
        addresses=(ip_interface("10.9.0.2/24"),),
        accept=("mtu",),
    )
    pushed = PushedSettings(client, cast("Device", device), lambda *_: None)

    def lines(push: Push) -> list[str]:
        pushed.take("server", push)
        asyncio.run(pushed.apply())
        return [line for line in capsys.readouterr().err.splitlines() if "not applied" in line]

    (line,) = lines(PUSH)
    assert "the server pushes routes 10.7.0.0/16, DNS 10.7.0.1; not applied" in line
    assert "accept does not list routes, dns" in line
    assert "10.9.0.2" not in line, "it is configured"
    assert lines(PUSH) == []
    (line,) = lines(structs.replace(PUSH, routes=tuple(f"10.{n}.0.0/16" for n in range(9))))
    assert "10.3.0.0/16 and 5 more, DNS" in line
    assert lines(Push(mtu=1400)) == []
    assert len(lines(PUSH)) == 1
    structlog.reset_defaults()
