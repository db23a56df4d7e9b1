"""Why peers have no link, put together: what either role notes of it, and what is said in time.

refusals.py     as the responder: handshakes that are refused, or come to nothing
attempts.py     as the initiator: what was tried, and what came back
last_error.py   the last error of each peer, from both
"""

from __future__ import annotations

from fastun.lane.lane import Lane
from fastun.link.attempts import Attempts
from fastun.link.inside import Inside
from fastun.link.key_exchange import KeyExchange
from fastun.link.last_error import LastErrors
from fastun.link.refusals import fingerprint
from fastun.link.stream.handshake import Handshaker, SealedHandshaker
from fastun.link.table import LinkTable
from fastun.session.refusal import Refusal


class Reasons:
    """Those of one gateway. Event loop only; any thread may read ``errors``."""

    def __init__(self, lane: Lane, links: LinkTable) -> None:
        """Begin without any."""
        self.errors = LastErrors()
        self.attempts = Attempts()
        self._lane = lane
        self._links = links
        self._exchange: KeyExchange | None = None

    def begin(self, inside: Inside, handshaker: Handshaker) -> Attempts:
        """Return what is to note attempts."""
        own_key = ""
        if isinstance(handshaker, SealedHandshaker):
            self._exchange = handshaker.exchange
            self.errors = self._exchange.refusals.errors
            own_key = fingerprint(handshaker.exchange.own.public)
        self.attempts = Attempts(self._links.by_slot, self.errors, inside.way_out, own_key)
        return self.attempts

    def tick(self) -> None:
        """Say what is due."""
        self.attempts.tick()
        if self._exchange is not None:
            self._exchange.refusals.watch(self._n_for_other_keys)

    def forget(self, slot: int) -> None:
        """Forget the slot's peer."""
        self.attempts.forget(slot)
        self.errors.forget(slot)
        if self._exchange is not None:
            self._exchange.refusals.forget(slot)

    def _n_for_other_keys(self) -> int:
        """Return how many handshakes came for another key than ours, on either transport."""
        on_streams = 0 if self._exchange is None else self._exchange.results[Refusal.BAD_MAC1]
        drops = self._lane.stats.drops()
        return on_streams + sum(n for drop, n in drops if drop.reason == Refusal.BAD_MAC1)
