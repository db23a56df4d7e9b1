"""What follows a look at the peer directory: handshakes with new peers, and routes to all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fastun import log
from fastun.gateway.peer_sync import PeerSync
from fastun.pace import PACE

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from fastun.gateway.pushed_settings import PushedSettings
    from fastun.gateway.quiet import Quiet
    from fastun.link.datagram.sessions import DatagramSessions
    from fastun.link.outside import Outside
    from fastun.link.push_updates import PushUpdates
    from fastun.peers.peer import Network


class PeerUser(Protocol):
    """The gateway, as far as peers come and go in it."""

    peer_sync: PeerSync
    datagrams: DatagramSessions | None
    pushed_settings: PushedSettings
    push_updates: PushUpdates
    outside: Outside


class PeerWatch:
    """That of one gateway. Event loop only."""

    def __init__(self, owner: PeerUser) -> None:
        """Prepare; the device has begun with the peers of the file."""
        self._owner = owner
        self._behind: tuple[Network, ...] = ()
        self._n_fills = owner.peer_sync.n_fills

    def tasks(self, quiet: Quiet) -> Iterator[Coroutine[None, None, None]]:
        """Yield what runs beside the rest."""
        yield self._run(quiet)
        if (fleet := self._owner.peer_sync.fleet) is not None:
            yield fleet.run(self.look)

    async def _run(self, quiet: Quiet) -> None:
        """Look for ever, and log what the rate limits have held back."""
        while True:
            await self.look()
            log.say_held_back()
            self._owner.outside.attempts.tick()
            self._owner.push_updates.tick()
            quiet.look()
            await PACE.next_look(PeerSync.REFRESH_S)

    async def look(self) -> None:
        """Follow the directory now."""
        peer_sync, datagrams = self._owner.peer_sync, self._owner.datagrams
        peer_sync.refresh()
        if peer_sync.n_fills != self._n_fills and datagrams is not None:
            self._n_fills = peer_sync.n_fills
            datagrams.begin_all()  # of new ones, that have endpoints
        if peer_sync.behind != self._behind:
            self._behind = peer_sync.behind
            await self._owner.pushed_settings.route(self._behind)
