"""Keeps the peers of a directory to their terms: which of them may connect now.

An end that comes is said a day and an hour before it, and when it has come. Event loop only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.config.quantity import format_moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.link.peer_slots import PeerSlots
    from fastun.peers.peer import Peer

# How long before the end of a peer's time it is said, in seconds.
NOTICES_S: Final = (86400, 3600)


class PeerTerms:
    """What is said and due of the peers that were last given to `admitted`."""

    def __init__(self, peer_slots: PeerSlots) -> None:
        """Begin without peers."""
        self._peer_slots = peer_slots
        self._due = float("inf")  # Unix time
        self._n_notices: dict[tuple[bytes, int], int] = {}  # by key and end
        self._log = log.get("peers")

    def is_due(self, now: float) -> bool:
        """Return whether a peer's time has ended since, or its end is to be said."""
        return now >= self._due

    def admitted(self, peers: Iterable[Peer], now: float) -> list[Peer]:
        """Return those that may connect at `now`, Unix time; say what is to be said of others."""
        self._due = float("inf")
        return self._admitted(peers, now, {})

    def also_admitted(self, peers: Iterable[Peer], gone: Iterable[bytes], now: float) -> list[Peer]:
        """Return the same of peers that have changed; those with the keys `gone` are not there."""
        barred = dict(self._peer_slots.barred)
        for key in gone:
            barred.pop(key, None)
        return self._admitted(peers, now, barred)

    def _admitted(
        self, peers: Iterable[Peer], now: float, barred: dict[bytes, tuple[str, str]]
    ) -> list[Peer]:
        admitted = []
        for peer in peers:
            if why := peer.terms.barred(now):
                barred[peer.public_key] = (peer.name, why)
                self._say_barred(peer, why)
                continue
            barred.pop(peer.public_key, None)
            admitted.append(peer)
            if peer.terms.expires is not None:
                self._watch_end(peer, peer.terms.expires, now)
        self._peer_slots.barred = barred
        return admitted

    def _say_barred(self, peer: Peer, why: str) -> None:
        before = self._peer_slots.barred.get(peer.public_key)
        if before is None or before[1] != why:
            self._log.warning(f"the peer may not connect: it is {why}", peer=peer.name)

    def _watch_end(self, peer: Peer, expires: int, now: float) -> None:
        """Say that the end is near, once for each of NOTICES_S that has been reached."""
        moments = [expires - notice_s for notice_s in NOTICES_S]
        n_reached = sum(moment <= now for moment in moments)
        self._due = min(self._due, *(each for each in (*moments, expires) if each > now))
        said = (peer.public_key, expires)
        if n_reached > self._n_notices.get(said, 0):
            self._log.warning(
                "the peer's access ends soon; 'fastun peer expire' extends it",
                peer=peer.name,
                expires=format_moment(expires),
            )
        if n_reached:
            self._n_notices[said] = n_reached
