"""What servers push to a client: the newest of each, as far as the configuration accepts it.

A push replaces the one before it from the same server as a whole, from whichever link it came. So
only the newest of each waits. Applying blocks, for seconds where it is DNS: it happens on another
thread, one at a time and with a pause, however fast a server pushes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

from fastun import log
from fastun.config.host import parse_dns
from fastun.config.interface import check_mtu
from fastun.config.push import Push
from fastun.config.vocabulary import ACCEPTABLE, Accept
from fastun.errors import ConfigError, FastunError
from fastun.gateway.push_pace import PushPace
from fastun.host.routing import pushable

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.host.process.gateway_device import GatewayDevice
    from fastun.host.routing.outer_addresses import OuterAddress
    from fastun.peers.peer import Address, Network, Peer

# A server pushes with each session, every two minutes, and when it pushes something else
# (push_pace.py). Changes of our own routes come between these.
PAUSE_S = 1.0

_LISTED_MAX = 4  # of what is left out, in a line of the log


class PushedSettings:
    """Takes what is pushed. Event loop only."""

    def __init__(
        self,
        settings: Settings,
        device: GatewayDevice,
        set_keepalive: Callable[[Peer, int], None],
        outer: Callable[[], set[OuterAddress]] = set,
    ) -> None:
        """Apply what ``settings`` accept to ``device`` and its ``inner_mtu``.

        ``set_keepalive`` takes each server's interval in seconds, 0 for none. ``outer`` gives the
        addresses that our own packets go to.
        """
        self._settings = settings
        self._device = device
        self._set_keepalive = set_keepalive
        self._outer = outer
        self._by_peer: dict[str, Push] = {}
        self._pace = PushPace(self._replace)
        self._has_come = asyncio.Event()
        self._changing = asyncio.Lock()  # so that of two changes the later has the newer addresses
        self._said: dict[str, str] = {}
        self._log = log.get("push")

    def take(self, peer: str, push: Push) -> None:
        """Replace the peer's last push, now or in time; a serving side ignores pushes."""
        if self._settings.role == "connect":
            self._pace.put(peer, push)

    def _replace(self, peer: str, push: Push) -> None:
        self._by_peer[peer] = push
        self._has_come.set()

    async def change(self, settings: Settings) -> None:
        """Accept what these settings do from now on, and apply it. Raises RuntimeFailure."""
        before, self._settings = self._settings, settings
        now = {peer.public_key: peer.name for peer in settings.peers}
        self._by_peer = {  # a peer is its key, and may have another name by now
            now[peer.public_key]: self._by_peer[peer.name]
            for peer in before.peers
            if peer.name in self._by_peer and peer.public_key in now
        }
        if settings.role == "connect" and _dns(settings) != _dns(before):
            await asyncio.to_thread(self._device.apply_dns, settings.dns, settings.dns_search)
        await self.apply()

    def ask(self) -> None:
        """Apply all again in a moment: our own packets go to another address."""
        self._has_come.set()

    async def place_outer(self) -> None:
        """Keep our own packets out of the tunnel, now that they go to other addresses."""
        async with self._changing:
            with self._warning("cannot keep our own packets out of the tunnel"):
                await asyncio.to_thread(self._device.outer_changed, self._outer())

    async def route(self, networks: Collection[Network]) -> None:
        """Lead packets for networks behind peers of the directory into the tunnel."""
        async with self._changing:
            with self._warning("cannot route networks behind peers"):
                await asyncio.to_thread(self._device.route_also, networks)

    async def run(self) -> None:
        """Apply what is taken, for ever."""
        while True:
            await self._has_come.wait()
            self._has_come.clear()
            await self.apply()
            await asyncio.sleep(PAUSE_S)

    async def apply(self) -> None:
        """Apply what the servers gave and the configuration accepts, in place of what it was."""
        settings = self._settings
        if settings.role == "serve":
            await self.place_outer()
            return
        accept = settings.accept
        pushed = [(peer, self._by_peer.get(peer.name, Push())) for peer in settings.peers]
        addresses: list[Address] = []
        for peer, push in pushed:
            self._set_keepalive(peer, push.keepalive if "keepalive" in accept else 0)
            if "addresses" in accept:
                addresses += self._allowed_addresses(push.addresses, peer)
        routes = [route for peer, push in pushed for route in _routes(push, peer)]
        kept = pushable.no_default(routes)
        addresses, routes = self._short_of_all(addresses, routes if "routes" in accept else [])
        for peer, push in pushed:
            self._say_not_accepted(peer, push, kept)
        mtus = [push.mtu for _, push in pushed if push.mtu]
        mtu = self._allowed_mtu(min(mtus, default=0), addresses) if "mtu" in accept else 0
        takes_all = "default" in accept and any(push.default for _, push in pushed)
        await self._apply_to_device(addresses, routes, mtu, takes_all=takes_all)
        if "dns" in accept and not settings.dns:
            dns = next((push.dns for _, push in pushed if push.dns), ())
            servers, domains = parse_dns(dns, "dns", has_zones=False)
            with self._warning():
                await asyncio.to_thread(self._device.apply_dns, servers, domains)

    async def _apply_to_device(
        self, addresses: list[Address], routes: list[Network], mtu: int, *, takes_all: bool
    ) -> None:
        async with self._changing:
            with self._warning():
                outer = self._outer()
                applied = await asyncio.to_thread(
                    self._device.apply, addresses, routes, mtu, outer, takes_all=takes_all
                )
                if self._device.inner_mtu.change(applied.mtu):
                    self._log.info("MTU changed by the server", mtu=applied.mtu)

    @contextlib.contextmanager
    def _warning(self, what: str = "cannot apply pushed settings") -> Iterator[None]:
        """Turn a refusal by the device into a warning."""
        try:
            yield
        except (FastunError, OSError) as error:
            self._warn(what, error=str(error))

    def _say_not_accepted(self, peer: Peer, push: Push, routes: Collection[Network]) -> None:
        """Say, once for each change, what the server pushes that the configuration leaves out.

        ``routes`` are those of all servers that may be applied.
        """
        assert self._settings.role == "connect"  # noqa: S101 (only there pushes are taken)
        accept = self._settings.accept
        left_out = {
            field: value
            for field in ACCEPTABLE
            if field not in accept and (value := self._not_ours_yet(field, push, peer, routes))
        }
        what = f"not accepted of {peer.name}"
        if self._said.get(what, "") == (said := _listed(left_out)):
            return
        self._said[what] = said
        if said:
            self._log.info(
                f"the server pushes {said}; not applied: accept does not list "
                f"{', '.join(left_out)}",
                peer=peer.name,
            )

    def _not_ours_yet(
        self, field: Accept, push: Push, peer: Peer, routes: Collection[Network]
    ) -> object:
        """Return what is pushed of a field, without the addresses that are configured anyway."""
        if field == "default":
            asks = push.default or not set(_routes(push, peer)) <= set(routes)
            return asks and self._settings.table != "all"
        if field != "addresses":
            return getattr(push, field)
        own = set(self._settings.addresses)
        return tuple(text for text in push.addresses if ip_interface(text) not in own)

    def _warn(self, what: str, **fields: object) -> None:
        """Warn about a push, and not again while the following pushes have the same fault."""
        said = str(fields)
        if self._said.get(what) != said:
            self._said[what] = said
            self._log.warning(what, **fields)

    def _allowed_mtu(self, mtu: int, addresses: list[Address]) -> int:
        """Return 0, with a warning, for an MTU that would take the device its IPv6 addresses."""
        own = (*self._settings.addresses, *addresses)
        try:
            if mtu:
                mode, wire = self._settings.mode, self._settings.wire
                check_mtu(mtu, "mtu", mode=mode, wire=wire, addresses=own)
        except ConfigError as error:
            self._warn("pushed MTU refused", error=str(error))
            return 0
        return mtu

    def _short_of_all(
        self, addresses: list[Address], routes: list[Network]
    ) -> tuple[list[Address], list[Network]]:
        """Leave out what makes a default route in pieces, of all servers together."""
        settings = self._settings
        assert settings.role == "connect"  # noqa: S101 (only there pushes are taken)
        if "default" in settings.accept or settings.table == "all":
            return addresses, routes
        kept = pushable.no_default((*(address.network for address in addresses), *routes))
        left = [address for address in addresses if address.network not in kept]
        self._say_refused(dict.fromkeys(left, "with what else is pushed, a default route"))
        return (
            [address for address in addresses if address not in left],
            [route for route in dict.fromkeys(routes) if route in kept],
        )

    def _allowed_addresses(self, texts: tuple[str, ...], peer: Peer) -> list[Address]:
        """Return those whose networks the server may send from: each brings a route to its own.

        One warning says why others are not taken.
        """
        refused: dict[Address, str] = {}
        for address in map(ip_interface, texts):
            if why := pushable.why_not(address, peer.allowed_ips):
                refused[address] = why
        self._say_refused(refused)
        return [address for address in map(ip_interface, texts) if address not in refused]

    def _say_refused(self, refused: dict[Address, str]) -> None:
        """Warn about these addresses, in one line, each with why."""
        if refused:
            first, why = next(iter(refused.items()))
            self._warn(
                "pushed address refused", address=str(first), reason=why, others=len(refused) - 1
            )


def _dns(settings: Settings) -> object:
    """Return what decides on a client's DNS."""
    assert settings.role == "connect"  # noqa: S101 (the caller looked)
    return settings.dns, settings.dns_search, "dns" in settings.accept


def _listed(pushed: dict[Accept, object]) -> str:
    """Return what is pushed in words, of long lists the beginning."""
    parts = []
    for field, value in pushed.items():
        if field == "default":
            parts.append("a default route")
            continue
        texts = list(map(str, value)) if isinstance(value, tuple) else [str(value)]
        more = f" and {len(texts) - _LISTED_MAX} more" if len(texts) > _LISTED_MAX else ""
        name = field.upper() if field in ("dns", "mtu") else field
        parts.append(f"{name} {' '.join(texts[:_LISTED_MAX])}{more}")
    return ", ".join(parts)


def _routes(push: Push, peer: Peer) -> list[Network]:
    return [
        route
        for route in map(ip_network, push.routes)
        if pushable.is_within(route, peer.allowed_ips)
    ]
