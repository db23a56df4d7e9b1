"""Where the peers of a fleet are: what this gateway says of its own, and does about others'.

    session confirmed, link ended --> Claims --> process of the fleet --> directory
    Elsewhere <-- process of the fleet <-- directory <-- another gateway

A peer that has shown up elsewhere by a later initiation than ours is let go at once. What it was
elsewhere, it cannot be here by an initiation that is not later: those are refused from then on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from fastun.fleet.messages import PEERS_MAX, Claims, Place
from fastun.session import tai64n

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.fleet.messages import Elsewhere, Message
    from fastun.link.datagram.sessions import DatagramSessions
    from fastun.link.peer_slots import PeerSlots, SlottedPeer
    from fastun.link.table import Link, LinkTable

#: Between two messages: what happens meanwhile is in one.
APART_S: Final = 0.05


class PeerHolder(Protocol):
    """The gateway, as far as peers come to it and leave it."""

    peer_slots: PeerSlots
    links: LinkTable
    datagrams: DatagramSessions | None


class Presence:
    """Of one gateway. Event loop only."""

    def __init__(self, owner: PeerHolder, say: Callable[[Message], bool]) -> None:
        """Say by ``say`` what is here; it returns False where it is to be said again later."""
        self._owner = owner
        self._say = say
        self._claimed: dict[bytes, bytes] = {}  # a peer's timestamp, by its key
        self._unsaid: dict[bytes, bytes | None] = {}  # None: it has left
        self._has_news = asyncio.Event()

    def on_session(self, slotted: SlottedPeer) -> None:
        """Note that a peer has a session here, confirmed by what it has sealed."""
        self._note(slotted.peer.public_key, slotted.guard.last_timestamp)

    def on_link(self, link: Link, is_there: bool) -> None:
        """Note that a link has come, whose session is noted by itself, or gone."""
        key = link.slotted.peer.public_key
        if not is_there and key in self._claimed:
            asyncio.get_running_loop().call_soon(self._settle, key, link)

    def _settle(self, key: bytes, link: Link) -> None:
        """Note that a peer has left, unless another link has replaced that one."""
        if link.slot not in self._owner.links.by_slot and self._claimed.pop(key, None) is not None:
            self._note(key, None)

    def _note(self, key: bytes, stamp: bytes | None) -> None:
        if stamp is not None:
            self._claimed[key] = stamp
        self._unsaid[key] = stamp
        self._has_news.set()

    def say_all(self) -> None:
        """Say all that is here: the process is a new one."""
        self._unsaid |= self._claimed
        self._has_news.set()

    async def run(self) -> None:
        """Say what is new, for ever."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            for keys in self._in_parts():
                stamps = {key: self._unsaid[key] for key in keys}
                here = [Place(public_key=key, initiated=s) for key, s in stamps.items() if s]
                gone = [key for key, stamp in stamps.items() if stamp is None]
                if not self._say(Claims(here=tuple(here), gone=tuple(gone))):
                    break  # the process reads late, or has ended
                for key in keys:
                    del self._unsaid[key]
            await asyncio.sleep(APART_S)
            if self._unsaid:
                self._has_news.set()

    def _in_parts(self) -> Iterator[list[bytes]]:
        keys = list(self._unsaid)
        for start in range(0, len(keys), PEERS_MAX):
            yield keys[start : start + PEERS_MAX]

    def take(self, elsewhere: Elsewhere) -> None:
        """Refuse what is not later than what others have had; let go of peers that are there."""
        for place in elsewhere.peers:
            slotted = self._owner.peer_slots.holder_of(place.public_key)
            if slotted is None:
                continue
            if place.initiated == tai64n.NEVER:
                slotted.guard.last_timestamp = tai64n.NEVER
                continue
            slotted.guard.last_timestamp = max(slotted.guard.last_timestamp, place.initiated)
            claimed = self._claimed.get(place.public_key)
            # Theirs may look earlier, cut short (fleet/presence.py): then it says what it won over.
            is_beaten = claimed is not None and (claimed < place.initiated or claimed == place.over)
            if place.is_there and is_beaten:
                self._let_go(slotted)

    def _let_go(self, slotted: SlottedPeer) -> None:
        self._owner.links.end(slotted.slot, "the peer is connected to another gateway")
        if self._owner.datagrams is not None:
            self._owner.datagrams.let_go(slotted.slot)
