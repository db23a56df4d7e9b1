"""When the gateway looks at what nothing reports: all looks together, and few while all is quiet.

A look at intervals is a wake-up each time. All of a process are at the same moments, multiples of
their intervals, so that they share one. While a tunnel is quiet (gateway/quiet.py) they are
`QUIET_S` apart; the end of the quiet wakes all at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

# Between looks in the quiet: nothing moves, and what a person or a program orders is reported.
QUIET_S: Final = 4.0

# A timer fires a little early: that look was the one before.
_EARLY: Final = 0.01


class Pace:
    """That of one event loop."""

    def __init__(self) -> None:
        """Begin awake."""
        self.is_quiet = False
        self._sleepers: set[asyncio.Future[None]] = set()

    def left_s(self, interval_s: float) -> float:
        """Return the time until the next look of one who looks each ``interval_s``."""
        every_s = max(interval_s, QUIET_S) if self.is_quiet else interval_s
        if every_s <= 0:
            return 0.0
        left_s = every_s - asyncio.get_running_loop().time() % every_s
        return left_s if left_s > every_s * _EARLY else left_s + every_s

    async def next_look(self, interval_s: float, most_s: float = QUIET_S) -> None:
        """Wait until then; while it is quiet for ``most_s``, but never less than the interval."""
        left_s = self.left_s(interval_s)
        if not self.is_quiet:
            await asyncio.sleep(left_s)
            return
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.add(sleeper)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, max(interval_s, most_s))):
                    await sleeper
        finally:
            self._sleepers.discard(sleeper)

    def end_quiet(self) -> None:
        """Wake all up."""
        self.is_quiet = False
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)


#: That of this process: it has one event loop.
PACE: Final = Pace()


class EachTick:
    """A look at each tick of ``interval_s``, for one who also comes in between; one at once.

    It goes by the tick, not by the time since the last look: a tick that comes a moment early, or
    soon after a look for another reason, would otherwise be left out, and its look be late by
    almost an interval.
    """

    def __init__(self, interval_s: float) -> None:
        """Begin with a look that is due."""
        self._interval_s = interval_s
        self._due_s = float("-inf")

    def is_due(self) -> bool:
        """Return whether to look now; the next one is then due at the next tick."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._due_s:
            return False
        self._due_s = now_s + PACE.left_s(self._interval_s) - self._interval_s * _EARLY
        return True
