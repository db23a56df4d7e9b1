"""Why a peer has no link: the last error of each, for the log, ``fastun status`` and the metrics.

It is gone when a handshake with the peer succeeds. What is counted stays, for as long as the peer.
"""

from __future__ import annotations

import time
from collections import Counter
from enum import StrEnum
from typing import Final

import msgspec

_TEXT_MAX = 160  # of 1,024 peers and more, in one reply of `fastun status`


class Reason(StrEnum):
    """What went wrong; the values are the metrics' label values."""

    NO_ANSWER = "no_answer"  # nothing at all came back
    PORT_CLOSED = "port_closed"  # connection refused, or ICMP port unreachable
    UNREACHABLE = "unreachable"  # ICMP: no route to the host, or to its network
    PROHIBITED = "prohibited"  # ICMP: a firewall says no
    NO_ROUTE = "no_route"  # this host's routing table has none
    BLOCKED_HERE = "blocked_here"  # this host's own firewall
    CLOSED = "closed"  # the connection was made, and closed without an answer
    COOKIE_ONLY = "cookie_only"  # a cookie came, and then nothing
    NOT_OPENED = "not_opened"  # the response does not open: another pre-shared key
    NOT_CONFIRMED = "not_confirmed"  # our responses are not confirmed
    OLD_TIMESTAMP = "old_timestamp"  # the peer's clock was set back
    NO_SLOT = "no_slot"  # as many peers are connected as can be
    NAME = "name"  # its name cannot be resolved
    OTHER = "other"  # as the text says


class LastError(msgspec.Struct, frozen=True):
    """One error. ``since`` is the Unix time of the last time it was seen.

    ``first`` is that of the first error since a handshake last succeeded, whichever it was.
    """

    reason: Reason
    since: float
    text: str
    first: float


_NONE: Final[Counter[Reason]] = Counter()


class PeerErrors(msgspec.Struct):
    """Those of one peer. Changed on the event loop only; any thread may read."""

    last: LastError | None = None
    counts: Counter[Reason] = msgspec.field(default_factory=lambda: _NONE)
    n_unconfirmed: int = 0  # our responses since a handshake last succeeded

    def note(self, reason: Reason, text: str) -> None:
        """Take note of an error, in place of the last one."""
        now = time.time()
        first = now if self.last is None else self.last.first
        self.last = LastError(reason, now, text[:_TEXT_MAX], first)
        # A new one each time: a scrape may be walking the old one.
        self.counts = self.counts + Counter({reason: 1})

    def clear(self) -> None:
        """Forget the error: a handshake has succeeded."""
        self.last, self.n_unconfirmed = None, 0
