"""A result as a picture: a panel a figure, a bar a case, a whisker from the least to the most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from bench.tunnel.cases import BASELINE, OURS, PEER
from bench.tunnel.comparison import compare
from bench.tunnel.report import conditions, measured, number

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from bench.tunnel.figures import Figure
    from bench.tunnel.results import Results

COLOURS = {BASELINE: "#9a9a9a", OURS: "#1f6fb4", PEER: "#d98a29"}
FORMATS = ("png", "svg")
_N_COLUMNS = 3
_PANEL_INCHES = (4.6, 2.9)
# Room for the number beside the longest bar, as a share of the axis.
_LABEL_ROOM = 1.25


def write_plots(results: Results, stem: Path) -> list[Path]:
    """Write STEM.png and STEM.svg; return them. OSError if that fails."""
    mpl.rcParams["svg.hashsalt"] = "fastun"  # the same result gives the same file
    canvas = draw(results)
    files = [stem.with_name(f"{stem.name}.{suffix}") for suffix in FORMATS]
    for file in files:
        # No date of writing, for the same reason.
        canvas.savefig(file, dpi=110, metadata={} if file.suffix == ".png" else {"Date": None})
    return files


def draw(results: Results) -> Canvas:
    """Return the picture of all figures that were measured."""
    figures = measured(results)
    n_rows = max(1, -(-len(figures) // _N_COLUMNS))
    width, height = _PANEL_INCHES
    canvas = Canvas(figsize=(width * _N_COLUMNS, height * n_rows), layout="constrained")
    canvas.suptitle("\n".join(conditions(results)[:3]), fontsize=8)
    panels = list(canvas.subplots(n_rows, _N_COLUMNS, squeeze=False).flat)
    for panel, figure in zip(panels, figures, strict=False):
        _draw_panel(panel, figure, results)
    for panel in panels[len(figures) :]:
        panel.set_axis_off()
    return canvas


def _draw_panel(panel: Axes, figure: Figure, results: Results) -> None:
    standings = compare(figure, results.cases)
    medians = [one.median for one in standings]
    below = [one.median - one.least for one in standings]
    above = [one.most - one.median for one in standings]
    places = range(len(standings))
    panel.barh(
        places,
        medians,
        xerr=(below, above),
        color=[COLOURS[one.case.kind] for one in standings],
        error_kw={"elinewidth": 0.8},
    )
    for place, one in zip(places, standings, strict=True):
        text = f" {number(one.median)}"
        panel.text(one.most, place, text, va="center", fontsize=7)
    panel.set_yticks(places, [one.case.title for one in standings], fontsize=7)
    panel.invert_yaxis()
    panel.set_xlim(0, max((one.most for one in standings), default=1) * _LABEL_ROOM or 1)
    panel.tick_params(axis="x", labelsize=7)
    panel.set_title(f"{figure.title}\n{figure.unit}, {figure.better} is better", fontsize=8)
