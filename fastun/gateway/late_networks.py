"""Gives clients routes to private networks that this host comes to lead to while it runs.

A server that forwards to all networks gives its clients those of its host (host/forward_ways.py).
At a boot an interface may have its address after fastun has started. What was there stays given:
a network that goes away is often back a moment later, and a route to it costs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.config import push_settings
from fastun.errors import FastunError
from fastun.pace import PACE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.config.settings import Settings
    from fastun.gateway.peer_sync import PeerSync
    from fastun.host.process.gateway_device import GatewayDevice
    from fastun.link.push_updates import PushUpdates
    from fastun.peers.peer import Network

LOOK_S: Final = 2.0


def with_networks(settings: Settings, networks: Iterable[Network]) -> Settings:
    """Return the settings of a server that forwards with routes for its clients.

    Without a list of networks that it forwards to, these are ``networks``: the private ones that
    this host is in or leads to.
    """
    if settings.role != "serve" or settings.wire != "wireguard" or settings.mode != "tun":
        return settings
    if settings.forward is None or settings.forward.to:
        return settings
    found = sorted(networks, key=lambda each: (each.version, each.network_address))
    push, left_out = push_settings.with_routes(
        settings.push, found, settings.addresses, settings.listen
    )
    if left_out:
        log.get("gateway").warning(
            "not all networks of this host fit the hello to clients; list in forward.to those that "
            "they need",
            left_out=len(left_out),
            first=str(left_out[0]),
        )
    return replace(settings, push=push)


class LateNetworks:
    """Of one gateway. Event loop only."""

    def __init__(
        self, device: GatewayDevice, peer_sync: PeerSync, push_updates: PushUpdates
    ) -> None:
        """Prepare."""
        self._device = device
        self._peer_sync = peer_sync
        self._push_updates = push_updates
        self._seen: frozenset[Network] | None = None  # by the last look that found others
        self._log = log.get("gateway")

    async def run(self) -> None:
        """Look at what the device's monitor has found, for ever."""
        while True:
            networks = self._device.networks
            if networks != self._seen:
                self._seen = networks
                await self._give(networks)
            await PACE.next_look(LOOK_S)

    async def _give(self, networks: Iterable[Network]) -> None:
        settings = self._peer_sync.settings
        try:
            now = with_networks(settings, networks)
            if settings.role != "serve" or now.role != "serve" or now.push == settings.push:
                return
            await self._peer_sync.change(now)
        except (FastunError, OSError) as error:
            self._log.warning("cannot give clients routes to new networks", error=str(error))
            return
        self._push_updates.look()
        new = [str(route) for route in now.push.routes if route not in settings.push.routes]
        self._log.info("clients get routes to new networks", routes=" ".join(new))
