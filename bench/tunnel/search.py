"""The highest rate that a path carries without loss, found by trials (RFC 2544 section 26.1).

Two departures. A little loss is allowed, since no tunnel on a general-purpose system keeps to
none for long. And the first trial sends as fast as the generator can: what passes that is limited
by the generator, and there is nothing to search for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOSS_LIMIT = 0.001
# Of what was sent, this much must have come out when the sender stops. The rest may be in
# queues: 5 % of a trial of one second is 50 ms, and a path that falls behind further is overrun,
# however long its queue hides the loss.
DELIVERED_MIN = 0.95
# Rates that are this close are one rate.
RESOLUTION = 1.05


@dataclass(frozen=True, slots=True)
class Trial:
    """What one trial saw: packets per second sent and delivered, and the share lost (0 to 1)."""

    sent_per_second: float
    delivered_per_second: float
    lost: float

    @property
    def passes(self) -> bool:
        """Whether the path carried this rate."""
        kept_up = self.delivered_per_second >= DELIVERED_MIN * self.sent_per_second
        return kept_up and self.lost < LOSS_LIMIT


def highest_rate(run_trial: Callable[[float | None], Trial], *, n_trials_max: int) -> float:
    """Return the delivered packets per second of the best trial that passes; 0 if none does.

    `run_trial` offers the rate that it is given, None for as fast as it can. A trial that fails by
    chance makes the answer too low, never too high.
    """
    trial = run_trial(None)
    if trial.passes:
        return trial.delivered_per_second
    too_high, carried, best = trial.sent_per_second, 0.0, 0.0
    # What comes out of an overrun path is a better guess than half of what went in.
    rate = min(trial.delivered_per_second, too_high / RESOLUTION)
    for _ in range(n_trials_max - 1):
        trial = run_trial(rate)
        if trial.passes:
            carried, best = rate, max(best, trial.delivered_per_second)
        else:
            too_high = rate
        if too_high <= carried * RESOLUTION:
            break
        rate = (carried + too_high) / 2
    return best
