"""Routes make way for the addresses that our own packets go to, whoever learns of them."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any, cast

from fastun.config.settings import Options, load
from fastun.gateway.pushed_settings import PushedSettings
from fastun.host.inner_mtu import InnerMtu
from fastun.host.wanted import Applied
from tests.support.pushed_device import settings

OUTER = {ip_address("10.9.9.9")}


class FakeDevice:
    """What it is given as outer addresses."""

    def __init__(self) -> None:
        self.given: list[object] = []
        self.inner_mtu = InnerMtu(1420)

    def outer_changed(self, addresses: object) -> None:
        self.given.append(addresses)

    def apply(self, _: object, __: object, ___: int, outer: object, **____: bool) -> Applied:
        self.given.append(outer)
        return Applied(1420)


def pushed(device: FakeDevice, its: object) -> PushedSettings:
    nothing = cast("Any", lambda *_: None)
    return PushedSettings(cast("Any", its), cast("Any", device), nothing, lambda: OUTER)  # type: ignore[arg-type]


def test_a_server_has_no_pushes_and_makes_way_all_the_same() -> None:
    device = FakeDevice()
    asyncio.run(pushed(device, load("serve", None, Options())).apply())
    assert device.given == [OUTER]


def test_a_client_that_is_asked_to_makes_way_without_a_push() -> None:
    device = FakeDevice()

    async def asked() -> None:
        applying = pushed(device, settings("10.0.0.0/8", accept=()))
        task = asyncio.create_task(applying.run())
        await asyncio.sleep(0.01)
        assert device.given == []
        applying.ask()
        async with asyncio.timeout(5):
            while not device.given:  # noqa: ASYNC110 (a thread makes it so)
                await asyncio.sleep(0.005)
        task.cancel()

    asyncio.run(asked())
    assert device.given == [OUTER]
