"""The tables of a result: prediction beside measurement, and what other machines would carry."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from bench.model.compared import summarise
from bench.tunnel.report import Grid
from bench.tunnel.turns import ROUNDS_MIN
from fastun.bench.model import grid
from fastun.bench.model.prediction import DEMANDS
from fastun.bench.model.report import SHORT
from fastun.bench.model.wires import SUPER_PACKET, WIRES
from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.model.compared import Summary
    from bench.model.results import Results
    from fastun.bench.model.figures import Predicted, WireCosts
    from fastun.bench.model.prediction import Demand
    from fastun.bench.model.wires import Wire

#: A model that is further off is of no use.
RATIO_MIN, RATIO_MAX = 0.85, 1.15
CORES = (4, 8, 16)
NIC_GBIT = 100.0
_WIDTH = 120  # of a line of the document
_MARKS = "<!-- model: begin -->\n", "<!-- model: end -->\n"


def comparison(results: Results) -> Grid:
    """Return the predictions beside what was measured."""
    table = Grid(
        "Goodput by the model and measured, Gbit/s, both ends on this machine",
        ["wire", "lanes", "streams", "model", "measured", "ratio", "95 %", "whole", "busy"],
    )
    for each in summarise(results.compared):
        table.rows.append(
            [
                each.wire,
                str(each.lanes),
                str(each.streams),
                f"{each.predicted_gbit:.2f}",
                f"{each.measured_gbit:.2f}",
                f"{each.ratio:.2f}",
                f"{each.low:.2f}-{each.high:.2f}",
                f"{each.whole_share:.2f}",
                f"{each.predicted_busy_cores:.2f}, {each.busy_cores:.2f}",
            ]
        )
    return table


def is_near(one: Summary) -> bool:
    """Return whether a prediction is near enough to what was measured."""
    return RATIO_MIN <= one.ratio <= RATIO_MAX


def verdict(found: Sequence[Summary]) -> str:
    """Return a sentence that names the predictions that are not near."""
    far = [
        f"{each.wire}, {_counted(each.lanes, 'lane')}, {_counted(each.streams, 'stream')} "
        f"({each.ratio:.2f})"
        for each in found
        if not is_near(each)
    ]
    if far:
        n_near = len(found) - len(far)
        return f"{n_near} of {len(found)} ratios are within 15 % of 1; not: {'; '.join(far)}."
    return f"All {len(found)} ratios are within 15 % of 1."


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n > 1)}"


def other_machines(results: Results) -> Grid:
    """Return what ends with more cores would carry."""
    table = Grid(
        f"Each end with so many cores, half as many lanes, and a NIC of {NIC_GBIT:g} Gbit/s",
        ["", "", *(f"{n} cores" for n in CORES)],
    )
    by_name = {costs.wire: costs for costs in results.costs}
    for wire in WIRES:
        for demand in DEMANDS:
            cells = (_cell(_predicted(wire, by_name[wire.name], demand, n)) for n in CORES)
            table.rows.append([wire.name if demand == DEMANDS[0] else "", demand, *cells])
    return table


def _predicted(wire: Wire, costs: WireCosts, demand: Demand, n_cores: int) -> Predicted:
    return grid.one(wire, costs, grid.View(NIC_GBIT).machine(n_cores), demand, SUPER_PACKET)


def _cell(row: Predicted) -> str:
    return (
        f"{row.bits_per_second / 1e9:.0f} ({SHORT.get(row.limit, row.limit)} {row.of_linear:.2f})"
    )


def into_document(results: Results, document: Path, link: str) -> None:
    """Put both tables where the document has its marks. RuntimeFailure where it has none.

    `link` leads from there to the result.
    """
    text = document.read_text(encoding="utf-8")
    begin, end = _MARKS
    if text.count(begin) != 1 or text.count(end) != 1:
        raise RuntimeFailure(f"{document}: no pair of lines {begin.strip()} and {end.strip()}")
    made = in_document(results, link)
    pattern = re.escape(begin) + ".*" + re.escape(end)
    document.write_text(
        re.sub(pattern, lambda _: begin + made + end, text, flags=re.DOTALL), encoding="utf-8"
    )


def in_document(results: Results, link: str) -> str:
    """Return both tables, without headings of their own."""
    machine = results.machine
    first, second = (
        table.as_markdown().split("\n\n", 1)[1]
        for table in (comparison(results), other_machines(results))
    )
    return (
        f"\nMeasured {results.date[:10]} on {machine.n_cpus} cores of {_article(machine.cpu)} "
        f"([the whole result]({link}),\nload before it {machine.load_average:g}); "
        f"medians of {results.n_rounds} rounds, Gbit/s; ratio: of\nthe model to the measurement "
        f"in each round, and {_interval(results.n_rounds)};\n"
        "busy: by the model and measured, of these cores, with the tunnel and its load:\n\n"
        f"{first}\n{textwrap.fill(verdict(summarise(results.compared)), _WIDTH)}\n\n"
        f"Each end with so many cores, half as many lanes and a NIC of {NIC_GBIT:g} Gbit/s: Gbit/s "
        f"(what limits it, and\nthe part of what cores and NIC alone would allow):\n\n{second}\n"
    )


def _interval(n_rounds: int) -> str:
    if n_rounds < ROUNDS_MIN:
        return f"the least and the most of these few (95 % would take {ROUNDS_MIN})"
    return "the interval that holds the true one with a confidence of 95 %"


def _article(cpu: str) -> str:
    return f"an {cpu}" if cpu[:1] in "AEIOU" else f"a {cpu}"
