"""What servers push to a client: applied as far as the configuration accepts it, one by one.

Applying blocks, for seconds where it is DNS: it happens on another thread, while here the next ones
wait. Whoever says more than can wait is not heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

from fastun import log
from fastun.config.host import parse_dns
from fastun.config.interface import check_mtu
from fastun.errors import ConfigError, FastunError
from fastun.link.hello import Push
from fastun.peers.peer import Address, Network

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.host.device import Device

# A server pushes once a link; so many peers may do it at once, and what it comes to is a few KiB.
WAITING_MAX = 16

# 10.0.0.0/8 and fd00::/8 are the widest that anybody's network is. An address with a shorter prefix
# would be a default route, of a client that may be pushed addresses and no routes.
_WIDEST_PREFIX = 8


class Pushes:
    """Takes what is pushed. Event loop only."""

    def __init__(self, settings: Settings, device: Device, on_applied: Callable[[], None]) -> None:
        """Have ``device`` apply what ``settings`` accept; its MTU may be another ``on_applied``."""
        self._settings = settings
        self._device = device
        self._on_applied = on_applied
        self._waiting: asyncio.Queue[Push] = asyncio.Queue(WAITING_MAX)
        self._log = log.get("push")

    def take(self, push: Push) -> None:
        """Have it applied when the ones before it are; a serving side is pushed nothing."""
        if self._settings.role != "connect":
            return
        try:
            self._waiting.put_nowait(push)
        except asyncio.QueueFull:
            self._log.debug("the server pushes faster than it can be applied")

    async def run(self) -> None:
        """Apply what is taken, for ever."""
        while True:
            await self.apply(await self._waiting.get())

    async def apply(self, push: Push) -> None:
        """Apply what the server gave and the configuration accepts."""
        accept = self._settings.accept
        addresses = self._allowed_addresses(push.addresses) if "addresses" in accept else []
        mtu = self._allowed_mtu(push.mtu, addresses) if "mtu" in accept else 0
        routes = self._allowed_routes(push.routes) if "routes" in accept else []
        await self._tell(self._device.apply, addresses, routes, mtu)
        self._on_applied()
        if "dns" in accept and not self._settings.dns:
            servers, domains = parse_dns(push.dns, "dns", has_zones=False)
            await self._tell(self._device.apply_dns, servers, domains)

    async def _tell(self, apply: Callable[..., None], *what: object) -> None:
        """Have the device apply something, which blocks; a refusal is a warning."""
        try:
            await asyncio.to_thread(apply, *what)
        except (FastunError, OSError) as error:
            self._log.warning("cannot apply what the server pushes", error=str(error))

    def _allowed_mtu(self, mtu: int, addresses: list[Address]) -> int:
        """Return 0, with a warning, for an MTU that would take the device its IPv6 addresses."""
        own = (*self._settings.addresses, *addresses)
        try:
            if mtu:
                mode, wire = self._settings.mode, self._settings.wire
                check_mtu(mtu, "mtu", mode=mode, wire=wire, addresses=own)
        except ConfigError as error:
            self._log.warning("the MTU that the server pushes is not taken", error=str(error))
            return 0
        return mtu

    def _allowed_addresses(self, texts: tuple[str, ...]) -> list[Address]:
        """Return those whose networks the server may send from: each brings a route to its own.

        One warning says why others are not taken.
        """
        refused: dict[Address, str] = {}
        for address in map(ip_interface, texts):
            if why := self._why_not(address):
                refused[address] = why
        if refused:
            first, why = next(iter(refused.items()))
            self._log.warning(
                "an address that the server pushes is not taken",
                address=str(first),
                reason=why,
                others=len(refused) - 1,
            )
        return [address for address in map(ip_interface, texts) if address not in refused]

    def _why_not(self, address: Address) -> str:
        """Return why a device should not have the address; empty where it may."""
        if address.ip.is_multicast or address.ip.is_unspecified or address.ip.is_loopback:
            return "no device has such an address"
        if address.network.prefixlen < _WIDEST_PREFIX:
            return f"no network is that wide; /{_WIDEST_PREFIX} is the most"
        if not self._is_allowed(address.network):
            return "its network is not within the peer's allowed IPs"
        return ""

    def _allowed_routes(self, routes: tuple[str, ...]) -> list[str]:
        """Return those that lead where the server may send from: it shall not pull in more."""
        return [route for route in routes if self._is_allowed(ip_network(route))]

    def _is_allowed(self, network: Network) -> bool:
        allowed = [prefix for peer in self._settings.peers for prefix in peer.allowed_ips]
        return any(
            prefix.version == network.version and network.subnet_of(prefix)  # type: ignore[arg-type]
            for prefix in allowed
        )
