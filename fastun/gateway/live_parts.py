"""The parts of a gateway that apply changed settings (reload.py), in the order of their turns.

First what the system may refuse: ports, then the device. Peers follow, whose sessions would not
come back, and then what is said of it all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from fastun import log
from fastun.gateway.reload import Change, Part
from fastun.gateway.settings_change import LIVE

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.gateway.outer_endpoints import OuterEndpoints
    from fastun.gateway.peer_sync import PeerSync
    from fastun.gateway.pushed_settings import PushedSettings
    from fastun.host.process.gateway_device import GatewayDevice
    from fastun.lane.lanes import Lanes
    from fastun.link.datagram.sessions import DatagramSessions
    from fastun.link.listening import Listening
    from fastun.link.outside import Outside
    from fastun.link.push_updates import PushUpdates
    from fastun.link.table import LinkTable


class Changing(Protocol):
    """What changes of a gateway: gateway.Gateway, which is above this module."""

    settings: Settings
    device: GatewayDevice
    lanes: Lanes
    links: LinkTable
    listening: Listening
    datagrams: DatagramSessions | None
    peer_sync: PeerSync
    pushed_settings: PushedSettings
    push_updates: PushUpdates
    outside: Outside

    @property
    def outer(self) -> OuterEndpoints:
        """Where its own packets go at the moment."""


def parts_of(gateway: Changing) -> tuple[Part, ...]:
    """Return the parts of a gateway, but for those that show it to others (run.py)."""
    owned = _Owned(gateway)
    return (
        _part("listen", owned.listen),
        _part("udp_port", owned.udp_port),
        Part(frozenset(LIVE), owned.all),
        _part("addresses allow_lan endpoints forward mtu peers", owned.device),
        _part("accept addresses listen mtu peers push", owned.peers, gateway.peer_sync.check),
        _part("addresses listen mtu push", owned.push),
        _part("accept addresses dns dns_search mtu peers", owned.pushed),
        _part("mss_clamp", owned.mss_clamp),
        # The last that the system may refuse: what goes back then does so without a gap.
        _part("allow_lan kill_switch", owned.kill_switch),
        _part("log", owned.log),
    )


def _part(
    fields: str,
    change: Change,
    check: Callable[[Settings], None] = lambda _: None,
) -> Part:
    return Part(frozenset(fields.split()), change, check)


class _Owned:
    """What each part does. Event loop only."""

    def __init__(self, gateway: Changing) -> None:
        self._gateway = gateway

    async def listen(self, _: Settings, now: Settings) -> Iterable[str]:
        if now.role == "serve":
            await self._gateway.listening.change(now.listen)
        return ()

    async def udp_port(self, _: Settings, now: Settings) -> Iterable[str]:
        if now.role == "connect" and self._gateway.datagrams is not None:
            await self._gateway.datagrams.ports.use(now.udp_port)
        return ()

    async def device(self, _: Settings, now: Settings) -> Iterable[str]:
        gateway = self._gateway
        applied = await asyncio.to_thread(gateway.device.change, now, gateway.outer.addresses())
        gateway.device.inner_mtu.change(applied.mtu)
        return [
            f"{refusal.kind} {refusal.item}: {refusal.reason}"
            for refusal in applied.refused
            if not refusal.is_pushed
        ]

    async def peers(self, _: Settings, now: Settings) -> Iterable[str]:
        gateway = self._gateway
        if now.role == "connect":  # a kill switch lets pass what goes to its endpoints
            await gateway.outer.place()
        await gateway.peer_sync.change(now)
        if now.role == "connect":
            endpoints = set(map(str, now.endpoints))
            for slot, link in list(gateway.links.by_slot.items()):
                if link.connection is not None and link.remote not in endpoints:
                    gateway.links.end(slot, "its endpoint is no longer in the configuration")
        if gateway.datagrams is not None:
            gateway.datagrams.begin_all()
        return ()

    async def push(self, _: Settings, __: Settings) -> Iterable[str]:
        self._gateway.push_updates.look()
        return ()

    async def pushed(self, _: Settings, now: Settings) -> Iterable[str]:
        await self._gateway.pushed_settings.change(now)
        return ()

    async def mss_clamp(self, _: Settings, now: Settings) -> Iterable[str]:
        self._gateway.lanes.clamp_mss(self._gateway.device.mtu if now.mss_clamp else 0)
        return ()

    async def kill_switch(self, _: Settings, now: Settings) -> Iterable[str]:
        kill_switch = self._gateway.outside.kill_switch
        if kill_switch is not None:
            await kill_switch.turn(now, self._gateway.outer.endpoints())
        return ()

    async def log(self, _: Settings, now: Settings) -> Iterable[str]:
        log.configure(*now.log)
        return ()

    async def all(self, _: Settings, now: Settings) -> Iterable[str]:
        await asyncio.to_thread(self._gateway.device.adopt, now)
        self._gateway.settings = now
        return ()
