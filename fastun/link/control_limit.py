"""How many control messages of one peer are looked at: a token bucket.

An authentic peer may still flood. A hello and its answer cost the gateway some 40 us, a probe 10.
"""

from __future__ import annotations

from dataclasses import dataclass

# A search of a path's MTU takes some 20 questions, which on a near path come in one burst; the
# peer's answers to ours and the hellos come beside them.
CONTROLS_BURST = 60.0
CONTROLS_PER_SECOND = 20.0


@dataclass
class ControlLimit:
    """One peer's bucket, which begins full."""

    tokens: float = CONTROLS_BURST
    since_s: float = 0.0

    def admit(self, now_s: float) -> bool:
        """Return whether there is a token left; takes it."""
        filled = self.tokens + (now_s - self.since_s) * CONTROLS_PER_SECOND
        self.tokens, self.since_s = min(CONTROLS_BURST, filled), now_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
