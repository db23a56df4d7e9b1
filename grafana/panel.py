"""What a panel of the dashboard is, and expressions that several panels need.

In an expression, $at selects the chosen gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "stat", "bargauge"]

BITS, BYTES, PACKETS, PER_S, SECONDS = "bps", "bytes", "pps", "ops", "s"
SHARE = "percentunit"  # Grafana's name for 0 to 1, shown as 0 % to 100 %
NUMBER = "short"

# Grafana's window: at least four scrapes, and no less than the distance of two points.
WINDOW = "[$__rate_interval]"
# Four samples of a worker's state are too few to name the bottleneck; this has some twenty.
STATE_WINDOW = "[5m]"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its queries are expressions with the legend of their series.

    ``width`` is of 24 columns. From ``warn`` on the value is shown yellow, from ``alarm`` on red.
    """

    title: str
    description: str
    what_to_do: str
    queries: tuple[tuple[str, str], ...]
    unit: str = NUMBER
    kind: Kind = "timeseries"
    width: int = 6
    warn: float | None = None
    alarm: float | None = None
    most: float | None = None
    none: str = ""
    names: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading, from left to right."""

    title: str
    panels: tuple[Panel, ...]
    height: int = 7


def rate(metric: str, labels: str = "", by: str = "") -> str:
    """Return the rate of a counter, summed by some labels."""
    selector = f"{metric}{{{','.join(filter(None, ('$at', labels)))}}}"
    return f"sum{f' by ({by}) ' if by else ''}(rate({selector}{WINDOW}))"


def quantile(share: float, histogram: str, labels: str, by: str = "le") -> str:
    """Return what ``share`` of a histogram's values stay under."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', labels, by)})"
