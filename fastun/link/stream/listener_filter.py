"""Sources whose SYNs the kernel drops for us, for a moment.

Accepting and closing a connection costs 20 us. A host that only connects makes 15,000 connections a
second, which would still take a third of a core. A filter on the listening socket
(fastun/host/sockets/syn_filter.py) drops the SYNs of such a source before there is a connection. It
affects only sources that have completed connections, so a forged address cannot block another host,
and a dropped SYN is sent again after a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from fastun.host.socket_state import n_drops
from fastun.host.sockets.syn_filter import SOURCES_MAX, attach
from fastun.link.source_limits import SourceLimits

# The SYNs of a source that is refused more often are dropped by the kernel. Below that, refusing
# costs 0.4 % of a core at most, and other clients of the same source can try again at once.
REFUSALS_PER_SECOND = 200
REFUSALS_BURST = 200

TURNED_AWAY_S = 1.0

# The oldest is let in again when there are more.
TURNED_AWAY_MAX = SOURCES_MAX

#: Drops what comes from these sources to a listener; empty: nothing. OSError.
Attach = Callable[[socket.socket, Sequence[bytes]], None]


class TurnedAway:
    """The sources whose SYNs are dropped now, on all listeners. Event loop only."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        on_dropped: Callable[[int], None],
        attach: Attach = attach,
    ) -> None:
        """Begin with none. ``on_dropped`` is called with the number of newly dropped SYNs."""
        self._listeners = listeners
        self._attach = attach
        self._on_dropped = on_dropped
        self._n_dropped = 0
        self._refusals = SourceLimits(REFUSALS_PER_SECOND, REFUSALS_BURST)
        self._until_s: dict[bytes, float] = {}  # the loop's time, the first to return first
        self._is_changed = False
        self._timer: asyncio.TimerHandle | None = None

    def refuse(self, source: bytes, now_s: float) -> None:
        """Record a refusal; after too many, ``apply`` makes the kernel drop the source's SYNs."""
        if source in self._until_s or self._refusals.take(source, now_s):
            return
        if len(self._until_s) >= TURNED_AWAY_MAX:
            del self._until_s[next(iter(self._until_s))]
        self._until_s[source] = now_s + TURNED_AWAY_S
        self._is_changed = True

    def apply(self) -> None:
        """Update the filters, if anything has changed."""
        if not self._is_changed:
            return
        self._is_changed = False
        self._count()
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # without memory for it we refuse by ourselves
                self._attach(listener, tuple(self._until_s))
        if self._until_s and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(next(iter(self._until_s.values())), self._let_in)

    def _count(self) -> None:
        n_dropped = sum(map(n_drops, self._listeners))
        self._on_dropped(n_dropped - self._n_dropped)
        self._n_dropped = n_dropped

    def _let_in(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time() + TURNED_AWAY_S / 10  # some at once
        self._until_s = {source: at_s for source, at_s in self._until_s.items() if at_s > now_s}
        self._is_changed = True
        self.apply()

    def close(self) -> None:
        """Forget all."""
        if self._timer is not None:
            self._timer.cancel()
