"""Gives clients routes to private networks that this host comes to lead to while it runs.

A server that forwards to all networks gives its clients those of its host (host/forward_ways.py).
At a boot an interface may have its address after fastun has started. What was there stays given:
a network that goes away is often back a moment later, and a route to it costs nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.errors import FastunError
from fastun.host.firewall.forward_ways import with_networks
from fastun.pace import PACE

if TYPE_CHECKING:
    from fastun.gateway.peer_sync import PeerSync
    from fastun.host.device import Device
    from fastun.link.push_updates import PushUpdates
    from fastun.peers.peer import Network

LOOK_S: Final = 2.0


class LateNetworks:
    """Of one gateway. Event loop only."""

    def __init__(self, device: Device, peer_sync: PeerSync, push_updates: PushUpdates) -> None:
        """Prepare."""
        self._device = device
        self._peer_sync = peer_sync
        self._push_updates = push_updates
        self._seen: frozenset[Network] | None = None  # by the last look that found others
        self._log = log.get("gateway")

    async def run(self) -> None:
        """Look at what the device's monitor has found, for ever."""
        while True:
            networks = self._device.forwarding.networks
            if networks != self._seen:
                self._seen = networks
                await self._give()
            await PACE.next_look(LOOK_S)

    async def _give(self) -> None:
        settings = self._peer_sync.settings
        try:
            now = await asyncio.to_thread(with_networks, settings, self._device.index)
            if self._peer_sync.settings is not settings:  # a reload has come between
                self._seen = None
                return
            if settings.role != "serve" or now.role != "serve" or now.push == settings.push:
                return
            await self._peer_sync.change(now)
        except (FastunError, OSError) as error:
            self._log.warning("cannot give clients routes to new networks", error=str(error))
            return
        self._push_updates.look()
        new = [str(route) for route in now.push.routes if route not in settings.push.routes]
        self._log.info("clients get routes to new networks", routes=" ".join(new))
