"""Verification of hints, and their effect for a peer that does not answer probes.

A hint (hints.py) is verified if it quotes a message that we have just sent. A host that sees our
datagrams can quote them, so a verified hint is followed only down to a limit, and for a while.
"""

from __future__ import annotations

import msgspec

# -- whether a hint is true -------------------------------------------------------------------

# A hint arrives a round trip after its datagram; one that quotes an older datagram is a replay.
RECENT_S = 5.0


class RecentCounters(msgspec.Struct, gc=False):
    """Which counters a session has used within the last 5 to 10 s."""

    _older: int = 0
    _newer: int = 0
    _noted_s: float = float("-inf")

    def note(self, sealed: int, now_s: float) -> None:
        """Take note, once a tick, of the counter that is next."""
        if sealed < self._newer:  # another session's
            self._older = self._newer = 0
        if now_s - self._noted_s >= RECENT_S:
            self._older, self._newer, self._noted_s = self._newer, sealed, now_s

    def has(self, counter: int, sealed: int) -> bool:
        """Return whether a message with ``counter`` may just have gone out; ``sealed`` is next."""
        return self._older <= counter < sealed


# -- peers that answer no probes --------------------------------------------------------------

# Fits every IPv6 path (RFC 8200 section 5), and nearly every IPv4 path.
FLOOR = 1280

# After it the full path MTU is tried again; doubled if a hint follows at once, up to the kernel's
# own value (net.ipv4.route.mtu_expires).
HOLD_S = 120.0
HOLD_MAX_S = 600.0
_AT_ONCE_S = 10.0


class HintedLimit(msgspec.Struct, gc=False):
    """What a verified hint allows to a peer that cannot be asked. ``size`` 0: all.

    ``whole``: longer datagrams go without "don't fragment", since the hint was below the floor;
    0: none does. Both are lengths of IP packets.
    """

    size: int = 0
    whole: int = 0
    _until_s: float = float("-inf")
    _hold_s: float = HOLD_S
    said: int = 0  # what the log said last of this path, which is not said again at each try

    def on_hint(self, mtu: int, now_s: float) -> bool:
        """Follow a verified hint; return whether it says anything new."""
        size, whole = max(mtu, FLOOR), (mtu if 0 < mtu < FLOOR else 0)
        is_less = self.size == 0 or size < self.size
        if not is_less and not (whole and (self.whole == 0 or whole < self.whole)):
            return False
        if self.size == 0:
            is_again = now_s - self._until_s < _AT_ONCE_S
            self._hold_s = min(2 * self._hold_s, HOLD_MAX_S) if is_again else HOLD_S
            self._until_s = now_s + self._hold_s
        self.size, self.whole = size, whole
        return True

    def expire(self, now_s: float) -> bool:
        """Return whether the hint has expired; then the full path MTU is used again."""
        if self.size == 0 or now_s < self._until_s:
            return False
        self.size = self.whole = 0
        return True
