"""What a responder says of handshakes that it refuses, or that come to nothing.

    not for our key        counted by the link-reader; one line a minute for all (``watch``)
    from an unknown key    a line a source and minute, ten a minute in all
    from a peer            a line a peer and reason a minute
    answered, and then     the initiator could not open the response, or has not got it: that shows
    not confirmed          only by its silence, so it is said after three in a row

The log's limits see to the minutes (fastun/log/limits.py, component "handshake") and say later how
many lines were held back. Nothing here grows with the number of sources.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Final

from fastun import log
from fastun.link.last_error import Reason
from fastun.link.peer_slots import SlottedPeer
from fastun.native import PEER_SLOTS
from fastun.session import tai64n
from fastun.session.noise import ConsumedInitiation
from fastun.session.refusal import Refusal

# Responses in a row without a proof: one may be lost, and a client may be stopped at any moment.
UNCONFIRMED_MAX: Final = 3

# An initiation that was overtaken by a newer one is older by some seconds at most.
OVERTAKEN_S: Final = 10.0

# Ahead of our clock by more: the peer's was wrong.
AHEAD_S: Final = 60.0

FINGERPRINT_LETTERS: Final = 8

_WATCH_S: Final = 10.0  # for a burst of handshakes for another key to be one line


def fingerprint(public_key: bytes) -> str:
    """Return the first letters of a public key, as ``fastun peer list`` shows it."""
    return base64.b64encode(public_key).decode()[:FINGERPRINT_LETTERS]


class Refusals:
    """Of one key pair. Event loop only."""

    def __init__(
        self,
        own_public: bytes,
        barred: Callable[[bytes], tuple[str, str] | None] = lambda _: None,
    ) -> None:
        """Be the responder with this key.

        ``barred`` has the name of a peer by its key, and why it may not connect: "expired".
        """
        self._own_public = own_public
        self._barred = barred
        self._n_for_other_keys = 0
        self._watched_s = float("-inf")
        self._log = log.get("handshake")

    # -- initiations ----------------------------------------------------------------------------

    def refused(
        self,
        reason: Refusal,
        remote: str,
        consumed: ConsumedInitiation | None,
        slotted: SlottedPeer | None,
    ) -> None:
        """Say why an initiation is refused, of which as much is known as is given."""
        if consumed is None:
            if reason is not Refusal.BAD_MAC1:  # that is said for all together
                self._log.warning(
                    "refused: the handshake message is damaged or forged",
                    remote=remote,
                    reason=str(reason),
                )
        elif slotted is None and (barred := self._barred(consumed.peer_public)):
            name, why = barred
            fix = "expire" if why == "expired" else "enable"
            self._log.warning(
                f"refused: the peer is {why}; 'fastun peer {fix}' lets it in", peer=name
            )
        elif slotted is None:
            self._log.warning(
                "refused: no peer here has this public key; if it is one of your clients, compare "
                "with 'fastun peer list', or add it again with 'fastun peer add'",
                key=fingerprint(consumed.peer_public),
                remote=remote,
            )
        elif reason is Refusal.REPLAYED_TIMESTAMP:
            self._say_old(slotted, remote, consumed.timestamp)
        elif reason is Refusal.NO_SLOT:
            self._log.warning(
                "refused: as many peers are connected as one server can have, or were until a "
                "moment ago; if it lasts, disconnect some, or run another server",
                peer=slotted.peer.name,
                most=PEER_SLOTS,
            )
            slotted.errors.note(
                Reason.NO_SLOT, f"{PEER_SLOTS:,} other peers are connected, or were a moment ago"
            )
        else:
            self._log.debug("refused", peer=slotted.peer.name, remote=remote, reason=str(reason))

    def _say_old(self, slotted: SlottedPeer, remote: str, timestamp: bytes) -> None:
        """Say that a peer's clock was set back; a copy, or one that was overtaken, is ordinary."""
        its_s = tai64n.to_unix_s(timestamp)
        behind_s = tai64n.to_unix_s(slotted.guard.last_timestamp) - its_s
        if behind_s < OVERTAKEN_S:
            self._log.debug("refused: an old handshake", peer=slotted.peer.name, remote=remote)
            return
        self._log.warning(
            "refused: this peer's clock is behind that of its last handshake; set it there, for "
            "instance by NTP (or this is a replay of an old handshake)",
            peer=slotted.peer.name,
            remote=remote,
            behind_s=round(behind_s),
            its_clock=tai64n.to_text(timestamp),
        )
        text = f"the peer's clock is {behind_s:.0f} s behind that of its last handshake"
        ahead_s = its_s + behind_s - time.time()
        if ahead_s > AHEAD_S:  # it is right now, and was not
            text = (
                f"its clock was {ahead_s:.0f} s ahead at its last handshake; 'peer set"
                " --reset-timestamp' in a fleet, else a restart here, lets it in"
            )
        slotted.errors.note(Reason.OLD_TIMESTAMP, text)

    # -- responses ------------------------------------------------------------------------------

    def response_sent(self, slotted: SlottedPeer, remote: str) -> None:
        """Take note of a response; say so if those before it were never confirmed."""
        errors = slotted.errors
        if errors.n_unconfirmed >= UNCONFIRMED_MAX:
            self._log.warning(
                "this peer does not confirm our responses: its pre-shared key may differ from "
                "ours, or our answers do not reach it (firewall)",
                peer=slotted.peer.name,
                remote=remote,
                responses=errors.n_unconfirmed,
            )
            text = "it does not confirm our responses: another pre-shared key, or they get lost"
            # Where we have tried ourselves and could not open the response, that says more.
            if errors.last is None or errors.last.reason is not Reason.NOT_OPENED:
                errors.note(Reason.NOT_CONFIRMED, text)
        errors.n_unconfirmed += 1

    # -- handshakes for other keys --------------------------------------------------------------

    def watch(self, n_for_other_keys: int) -> None:
        """Say how many handshakes were not for our key; given are those since the start."""
        now_s = time.monotonic()
        if now_s - self._watched_s < _WATCH_S:
            return
        self._watched_s = now_s
        n_before, self._n_for_other_keys = self._n_for_other_keys, n_for_other_keys
        if self._n_for_other_keys > n_before:
            self._log.warning(
                "handshakes came that are for another public key than ours: a client has a wrong "
                "public key of this server, or they are for another server",
                handshakes=self._n_for_other_keys - n_before,
                our_key=fingerprint(self._own_public),
            )
