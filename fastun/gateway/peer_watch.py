"""What follows a look at the peer directory: handshakes with new peers, and routes to all.

In a fleet, routes are to the peers that are connected here, for a routing daemon to announce: they
come and go with the links. Several that do so at once are one change. A peer on UDP that answers
nothing any more has none, though its session goes on: it may be at another gateway by now, and
while the directory is away nothing else says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from fastun import log
from fastun.gateway.peer_sync import PeerSync
from fastun.gateway.presence import Presence
from fastun.link.stream.handshake import SealedHandshaker
from fastun.pace import PACE

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from fastun.gateway.pushed_settings import PushedSettings
    from fastun.gateway.quiet import Quiet
    from fastun.link.datagram.sessions import DatagramSessions
    from fastun.link.outside import Outside
    from fastun.link.peer_slots import PeerSlots
    from fastun.link.push_updates import PushUpdates
    from fastun.link.stream.handshake import Handshaker
    from fastun.link.table import Link, LinkTable
    from fastun.peers.peer import Network

#: Between two changes of routes: each is compared with all that are there.
ROUTES_APART_S: Final = 0.1


class PeerUser(Protocol):
    """The gateway, as far as peers come and go in it."""

    peer_sync: PeerSync
    datagrams: DatagramSessions | None
    pushed_settings: PushedSettings
    push_updates: PushUpdates
    outside: Outside
    links: LinkTable
    peer_slots: PeerSlots
    handshaker: Handshaker


class PeerWatch:
    """That of one gateway. Event loop only."""

    def __init__(self, owner: PeerUser) -> None:
        """Prepare; the device has begun with the peers of the file."""
        self._owner = owner
        self._behind: tuple[Network, ...] = ()
        self._n_fills = owner.peer_sync.n_fills
        self._routed: frozenset[bytes] = frozenset()  # keys of peers
        self._moved = asyncio.Event()  # a link has come or gone, or a peer is another

    def tasks(self, quiet: Quiet) -> Iterator[Coroutine[None, None, None]]:
        """Yield what runs beside the rest."""
        yield self._run(quiet)
        if (fleet := self._owner.peer_sync.fleet) is not None:
            presence = Presence(self._owner, fleet.say)
            fleet.follow(presence.say_all, presence.take)
            self._owner.links.follow(presence.on_link)
            if isinstance(self._owner.handshaker, SealedHandshaker):
                self._owner.handshaker.exchange.on_session = presence.on_session
            yield presence.run()
            yield fleet.run(self.look)
        if self._owner.peer_sync.routes_connected:
            self._owner.links.follow(self._on_link)
            yield self._route_connected()

    async def _run(self, quiet: Quiet) -> None:
        """Look for ever, and log what the rate limits have held back."""
        while True:
            await self.look()
            log.say_held_back()
            self._owner.outside.attempts.tick()
            self._owner.push_updates.tick()
            quiet.look()
            if self._owner.peer_sync.routes_connected and self._connected() != self._routed:
                self._moved.set()
            await PACE.next_look(PeerSync.REFRESH_S)

    async def look(self) -> None:
        """Follow the directory now."""
        peer_sync, datagrams = self._owner.peer_sync, self._owner.datagrams
        peer_sync.refresh()
        if peer_sync.n_fills != self._n_fills:
            self._n_fills = peer_sync.n_fills
            self._moved.set()
            if datagrams is not None:
                datagrams.begin_all()  # of new ones, that have endpoints
        if not peer_sync.routes_connected:
            await self._route(peer_sync.behind)

    def _on_link(self, _link: Link, _is_there: bool) -> None:
        self._moved.set()

    async def _route_connected(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            self._routed = self._connected()
            await self._route(self._owner.peer_sync.behind_of(self._routed))
            await asyncio.sleep(ROUTES_APART_S)

    def _connected(self) -> frozenset[bytes]:
        """Return the keys of the peers that have a link, and have not fallen silent on it."""
        links, datagrams = self._owner.links.by_slot.values(), self._owner.datagrams
        return frozenset(
            link.slotted.peer.public_key
            for link in links
            if datagrams is None or not datagrams.silence.is_gone(link.slot)
        )

    async def _route(self, behind: tuple[Network, ...]) -> None:
        if behind != self._behind:
            self._behind = behind
            await self._owner.pushed_settings.route(behind)
