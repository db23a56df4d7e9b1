"""Whether a peer on UDP is still there: asked, when what was sent to it gets no answer.

    sent, and nothing heard for ASK_AFTER_S   a question at each look, which a fastun peer answers
    ANSWER_S without an answer                the path is doubted: a handshake tries all addresses
                                              of the peer, and looks its names up again
    plain WireGuard                           doubted after PLAIN_S; it answers no questions

A persistent keepalive (`keepalive`) that follows a silence is such a question as well: where the
mapping of a NAT on the way is dead, an idle peer notices.

A client that has other servers to go to, as in a fleet, asks and doubts sooner (`QUICK_S`), so that
TCP inside the tunnel finds the next one by its third retransmission, after 1.4 s: the one after
that is at 3 s. So does one whose handshakes are answered in less than half of that time: routers
may have led it to another gateway, which does not know the session. Not within `SETTLED_S` after it
has moved: servers that are only slow are not left in turns.

By WireGuard's own timers a peer that is gone is noticed after 12 s, by a keepalive that does not
come (timers.py). A doubt ends nothing: the session goes on, and the first handshake that succeeds
takes over, wherever it was answered. The question is the shortest probe of the path's MTU.

Much is never answered, such as a stream of measurements. So each answer that only a question has
brought doubles the time to the next question, until the peer sends packets of its own. And where
the first handshake finds the peer where it was, the path is slow or loses much: the next doubt
takes twice as long.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from fastun.native import UdpAddress

ASK_AFTER_S: Final = 1.0
ASK_AFTER_MAX_S: Final = 4.0
ANSWER_S: Final = 1.0
PLAIN_S: Final = 4.0

# In place of ASK_AFTER_S and ANSWER_S, with other servers to go to, or on a path that is as quick.
QUICK_S: Final = 0.25
SETTLED_S: Final = 5.0

_QUICKER: Final = round(ANSWER_S / QUICK_S)

# How much longer a doubt may take, and for how long that is remembered.
PATIENCE_MAX: Final = 8
PATIENCE_LASTS_S: Final = 120.0

# Handshakes in a row that found a fastun peer where it was, after which the likely cause is said.
# One that loses so much, or answers so late, in a row has not been seen on a path worth having.
FOUND_AT_ONCE_MAX: Final = 3
HINT_INTERVAL_S: Final = 60.0


class Step(Enum):
    """What is to be done now."""

    ASK = "send a question"
    DOUBT = "begin a handshake"


class Liveness(msgspec.Struct, gc=False):
    """What is known of one peer. Times are CLOCK_BOOTTIME."""

    is_doubted: bool = False  # the path; until the next handshake
    doubted_at: UdpAddress | None = None  # where the peer was then
    ask_after_s: float = ASK_AFTER_S
    asked_s: float | None = None  # the first of the questions that wait for an answer
    n_received: int = 0  # packets of the peer's
    patience: int = 1  # times ANSWER_S or PLAIN_S
    patient_until_s: float = float("-inf")
    is_near: bool = False  # a handshake was answered in less than half of QUICK_S
    moved_s: float = float("-inf")  # the last time that it was found elsewhere
    n_found: int = 0  # handshakes in a row that found the peer where it was
    hinted_s: float = float("-inf")

    def doubt(self, address: UdpAddress | None) -> None:
        """Note that a handshake tries the path."""
        self.is_doubted, self.doubted_at, self.asked_s = True, address, None

    def on_round_trip(self, seconds: float) -> None:
        """Note how long a handshake took to be answered."""
        self.is_near = 2 * seconds < QUICK_S

    def on_handshake(self, address: UdpAddress | None, n_attempts: int, now_s: float) -> None:
        """Note that one has succeeded, with the peer at ``address``, after so many initiations."""
        if self.is_doubted and n_attempts <= 1 and address == self.doubted_at:
            before = self.patience if now_s < self.patient_until_s else 1
            self.patience = min(2 * before, PATIENCE_MAX * (_QUICKER if self.is_near else 1))
            self.n_found = self.n_found + 1 if now_s < self.patient_until_s else 1
            self.patient_until_s = now_s + PATIENCE_LASTS_S
        elif self.is_doubted:
            self.n_found = 0
            if address != self.doubted_at:
                self.moved_s = now_s
        self.is_doubted, self.asked_s = False, None

    def is_to_be_explained(self, now_s: float) -> bool:
        """Return whether to say why the peer may fall silent after each handshake; now and then."""
        n_max = FOUND_AT_ONCE_MAX + (2 if self.is_near else 0)  # after as long a silence
        is_due = self.n_found >= n_max and now_s - self.hinted_s >= HINT_INTERVAL_S
        if is_due:
            self.hinted_s = now_s
        return is_due

    def step(
        self,
        now_s: float,
        since_s: float | None,
        n_received: int,
        *,
        may_ask: bool,
        has_others: bool = False,
    ) -> Step | None:
        """Return what is to be done, at each look at the peer.

        ``since_s`` is when the first of what has got no answer was sent (None: there is no such),
        ``n_received`` how many packets the peer has sent, ``may_ask`` whether it answers questions,
        and ``has_others`` whether there are other servers to go to.
        """
        if n_received != self.n_received:
            self.n_received, self.ask_after_s = n_received, ASK_AFTER_S
        if self.asked_s is not None and (since_s is None or since_s > self.asked_s):
            self.asked_s = None
            self.ask_after_s = min(2 * self.ask_after_s, ASK_AFTER_MAX_S)
        if since_s is None or self.is_doubted:
            return None
        patience = self.patience if now_s < self.patient_until_s else 1
        if not may_ask:
            return Step.DOUBT if now_s - since_s >= PLAIN_S * patience else None
        is_quick = (has_others or self.is_near) and now_s - self.moved_s >= SETTLED_S
        is_usual = self.ask_after_s == ASK_AFTER_S  # no answer was brought by a question alone
        if now_s - since_s < (QUICK_S if is_quick and is_usual else self.ask_after_s):
            return None
        if self.asked_s is None:
            self.asked_s = now_s
        answer_s = (QUICK_S if is_quick else ANSWER_S) * patience
        return Step.DOUBT if now_s - self.asked_s >= answer_s else Step.ASK
