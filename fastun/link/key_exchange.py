"""WireGuard's handshake with our peers, on streams and on UDP alike: its messages made and read.

It decides which peers may connect, and counts what became of each handshake.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from fastun.lane.lane import Lane
from fastun.link.hello import Hello
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.link.refusals import Refusals
from fastun.session import clock, noise
from fastun.session.keys import KeyPair
from fastun.session.protocol import NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.timestamps import Timestamps
from fastun.session.transport import SessionKeys


class SessionCounts(msgspec.Struct):
    """What happened to sessions since the start, of either kind of link."""

    n_rekeys: int = 0
    last_handshake: dict[int, float] = msgspec.field(default_factory=dict)  # by slot, Unix time


class KeyExchange:
    """The handshakes of one key pair. ``results`` counts them by what became of them."""

    def __init__(
        self,
        peer_slots: PeerSlots,
        own: KeyPair,
        hello_for: Callable[[SlottedPeer], Hello],
        timestamps: Timestamps | None = None,
    ) -> None:
        """Be ``own``; ``hello_for(slotted)`` is our hello to a peer.

        ``timestamps`` are those of all initiations under these keys.
        """
        self.refusals = Refusals(own.public, peer_slots.why_barred)
        self.peer_slots = peer_slots
        self.own = own
        self.hello_for = hello_for
        self._timestamps = timestamps or Timestamps()
        self.on_session: Callable[[SlottedPeer], None] = lambda _: None
        self.admits: Callable[[SlottedPeer], bool] = lambda _: True  # to a session
        self.results: Counter[str] = Counter(dict.fromkeys(("ok", *Refusal), 0))

    # -- as the initiator ---------------------------------------------------------------------

    def initiate(
        self,
        slotted: SlottedPeer,
        cookie: bytes | None = None,
        local_index: int | None = None,
    ) -> tuple[bytes, noise.InitiatorState]:
        """Return a new initiation to a peer, with what its cookie reply gave; None: any index."""
        timestamp, public = self._timestamps.next(), slotted.peer.public_key
        return noise.initiate(
            self.own, public, cookie=cookie, timestamp=timestamp, local_index=local_index
        )

    def conclude(
        self, slotted: SlottedPeer, state: noise.InitiatorState, response: bytes
    ) -> SessionKeys:
        """Return the keys that a response gives. HandshakeError, counted."""
        with self.counting():
            return noise.consume_response(self.own, state, response, _preshared_key(slotted))

    # -- as the responder ---------------------------------------------------------------------

    def admit(
        self, initiation: bytes, remote: object = ""
    ) -> tuple[SlottedPeer, noise.ConsumedInitiation]:
        """Return the sender of an initiation that may be answered.

        HandshakeError, counted and logged with ``remote``, where it came from.
        """
        consumed, slotted = None, None
        try:
            with self.counting():
                consumed = noise.consume_initiation(self.own, initiation)
                slotted = self.peer_slots.holder_of(consumed.peer_public)
                return self._checked(slotted, consumed), consumed
        except HandshakeError as error:
            self.refusals.refused(error.reason, str(remote), consumed, slotted)
            raise

    def _checked(
        self, slotted: SlottedPeer | None, consumed: noise.ConsumedInitiation
    ) -> SlottedPeer:
        if slotted is None:
            raise HandshakeError(Refusal.UNKNOWN_PEER)
        if not self.admits(slotted):
            raise HandshakeError(Refusal.DRAINING)
        slotted.guard.admit(consumed.timestamp, clock.boottime_s())
        return self.peer_slots.in_slot(slotted)

    def respond(
        self,
        slotted: SlottedPeer,
        consumed: noise.ConsumedInitiation,
        cookie: bytes | None = None,
        *,
        remote: object = "",
        local_index: int | None = None,
    ) -> tuple[bytes, SessionKeys]:
        """Return the response to an admitted initiation, which goes to ``remote``, and the keys."""
        self.refusals.response_sent(slotted, str(remote))
        psk = _preshared_key(slotted)
        return noise.respond(consumed, psk, cookie=cookie, local_index=local_index)

    # -- either -------------------------------------------------------------------------------

    def succeeded(self, slotted: SlottedPeer) -> None:
        """Count a handshake that gave a session, which the peer is known to have."""
        self.results["ok"] += 1
        slotted.errors.clear()
        self.on_session(slotted)

    def watch(self, lane: Lane) -> None:
        """Say, now and then, how many handshakes came that are for another key than ours."""
        on_udp = sum(n for drop, n in lane.stats.drops() if drop.reason == Refusal.BAD_MAC1)
        self.refusals.watch(on_udp + self.results[Refusal.BAD_MAC1])

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count the refusal that leaves the ``with`` block."""
        try:
            yield
        except HandshakeError as error:
            self.results[error.reason] += 1
            raise


def _preshared_key(slotted: SlottedPeer) -> bytes:
    return slotted.peer.preshared_key or NO_PRESHARED_KEY
