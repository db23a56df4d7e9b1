"""The tables of ``fastun bench --model`` for a person: 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from fastun.bench.model import grid
from fastun.bench.model.prediction import (
    ANSWERS,
    DEMANDS,
    KERNEL,
    NOT_CROWDED,
    SINK,
    SOURCE,
)
from fastun.bench.model.wires import SMALL_PACKET, SUPER_PACKET
from fastun.bench.report import filled
from fastun.bench.stages import RECEIVING, SENDING

if TYPE_CHECKING:
    from fastun.bench.model.figures import Model, Predicted, WireCosts
    from fastun.bench.model.prediction import Demand

_SENDER = (SOURCE, *SENDING)
_RECEIVER = (KERNEL, *RECEIVING, SINK)
# Of the cores; less does not matter.
_OTHERS_MAX = 0.1
_LEGEND = (
    "source, sink: the programs that send and receive. kernel: what the receiving host's does "
    "before the link-reader. answers: TCP's, by the other workers of both ends. cores: all cores "
    "of an end are busy. NIC: it is full. Any other limit: that stage is busy, in each process "
    "that it has (tun-r: tun-reader, link-w: link-writer, and so on)."
)
#: How the limits are written in a cell.
SHORT = {
    SENDING[0]: "tun-r",
    SENDING[1]: "link-w",
    RECEIVING[0]: "link-r",
    RECEIVING[1]: "tun-w",
}


def of_model(figures: Model) -> Iterable[Table | str]:
    """Return what is printed."""
    cores = f"{figures.cores} core{'s' * (figures.cores > 1)}"
    yield f"fastun {figures.version}, Linux {figures.kernel}; measured on {cores} for both ends"
    yield from _if_busy(figures)
    yield ""
    yield "what each stage costs: processor time in µs for 64 KiB of a TCP stream"
    yield _costs(figures, SUPER_PACKET, (*_SENDER, *_RECEIVER, ANSWERS), ("one flow", "many flows"))
    yield _crowding(figures)
    yield ""
    yield "the same for a packet of 64 bytes"
    yield _costs(figures, SMALL_PACKET, (*SENDING, KERNEL, *RECEIVING), ("one flow",))
    crossing_us = max((costs.crossing_ns for costs in figures.wires), default=0.0) / 1e3
    yield f"and {crossing_us:.2f} µs for one that crosses from one lane to another"
    yield ""
    yield f"what other machines would carry: each end with so many cores,\n{_machines(figures)}"
    yield "Gbit/s of TCP's payload, and what limits it"
    yield _predictions(figures, SUPER_PACKET, DEMANDS)
    yield ""
    yield "the same for packets of 64 bytes, millions a second"
    yield _predictions(figures, SMALL_PACKET, DEMANDS[1:])
    yield ""
    yield filled(_LEGEND)
    yield ""
    yield "What is taken for granted:"
    yield from (filled(f"- {text}") for text in figures.assumptions)


def _machines(figures: Model) -> str:
    lanes = "lanes as 'auto' chooses"
    if figures.lanes is not None:
        lanes = f"{figures.lanes} lane{'s' * (figures.lanes > 1)}"
    return f"{lanes} and a NIC of {figures.nic_gbit_per_second:g} Gbit/s"


def _if_busy(figures: Model) -> Iterable[str]:
    windows = [window for costs in figures.wires for window in costs.windows]
    others = sum(window.others_cores for window in windows) / len(windows)
    if others > _OTHERS_MAX * figures.cores:
        yield filled(
            f"Others kept {others:.1f} cores busy meanwhile, so these costs are too high; "
            "run it again when this machine has nothing else to do."
        )


def _costs(figures: Model, frame: str, stages: Sequence[str], demands: Sequence[Demand]) -> Table:
    table = _table("wire", *stages)
    for costs in figures.wires:
        for demand in demands:
            first = costs.wire if demand == demands[0] else f"  {demand}"
            table.add_row(first, *_cells(costs, frame, stages, demand))
    return table


def _cells(costs: WireCosts, frame: str, stages: Sequence[str], demand: Demand) -> Iterable[str]:
    of_flows = costs.of(demand)
    for stage in stages:
        ends = (end[stage] for end in (of_flows.sender, of_flows.receiver) if stage in end)
        yield _three_digits(sum(cost.of(costs.frames[frame]) for cost in ends) / 1e3)


def _crowding(figures: Model) -> str:
    each = ", ".join(
        f"{costs.wire} {costs.crowding.cost:.2f}"
        for costs in figures.wires
        if costs.crowding != NOT_CROWDED
    )
    return filled(f"times as much where twice as many lanes share the cores: {each or 1}")


def _three_digits(value: float) -> str:
    """Return it as 0.123, 1.23, 12.3 or 123."""
    digits = next((n for n, least in ((0, 99.95), (1, 9.995), (2, 0.9995)) if value >= least), 3)
    return f"{value:.{digits}f}"


def _predictions(figures: Model, frame: str, demands: Sequence[Demand]) -> Table:
    table = _table("wire, cores:", *map(str, grid.CORES))
    for wire in (costs.wire for costs in figures.wires):
        table.add_row(wire)
        rows: dict[tuple[tuple[str, str], ...], list[Demand]] = {}
        for demand in demands:
            key = (wire, frame, demand)
            row = (p for p in figures.predictions if (p.wire, p.frame, p.demand) == key)
            cells = tuple((_shown(each), SHORT.get(each.limit, each.limit)) for each in row)
            rows.setdefault(cells, []).append(demand)
        for cells, alike in rows.items():
            values, limits = zip(*cells, strict=True)
            table.add_row(f"  {_title(alike, demands)}", *values)
            table.add_row("", *limits)
    return table


def _title(alike: Sequence[Demand], demands: Sequence[Demand]) -> str:
    """Return what asks for the same: "one flow", "one, many flows", or "any"."""
    if len(alike) == len(demands) > 1:
        return "any"
    return ", ".join((*(each.removesuffix(" flow") for each in alike[:-1]), alike[-1]))


def _shown(prediction: Predicted) -> str:
    if prediction.frame == SMALL_PACKET:
        return _three_digits(prediction.frames_per_second / 1e6)
    return _three_digits(prediction.bits_per_second / 1e9)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for heading in others:
        # "tun-reader" and the like have two lines, so that 80 columns are enough.
        table.add_column(heading.replace("-", "-\n"), justify="right", no_wrap=True)
    return table
