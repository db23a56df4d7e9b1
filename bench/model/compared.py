"""Rounds in which costs are measured, and beside them what they are to predict.

In each round, for each wire: the costs with one lane, and then, in another order every round, one
TCP stream and eight, with one lane and with two. Both ends are on this machine's cores, less those
that something else was busy with meanwhile.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fastun.bench.model import grid
from fastun.bench.model.costs import LOADS, Hosts, costs_of, summed
from fastun.bench.model.figures import Window, WireCosts
from fastun.bench.model.prediction import Machine
from fastun.bench.model.windows import Watch, streams
from fastun.bench.model.wires import SUPER_PACKET, WIRES

if TYPE_CHECKING:
    from fastun.bench.model.prediction import Demand
    from fastun.bench.model.wires import Wire
    from fastun.lab.network import Lab

N_STREAMS = 8
N_LANES = 2
# A veth pair has no speed of its own.
_NO_NIC_BITS = 1e15

Say = Callable[[str], None]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What went through, and what the costs of the same round had predicted."""

    wire: str
    lanes: int
    streams: int
    cores: float
    measured_bits_per_second: float
    predicted_bits_per_second: float
    limit: str
    busy_cores: float

    @property
    def ratio(self) -> float:
        """Of the prediction to what was measured."""
        return self.predicted_bits_per_second / self.measured_bits_per_second


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Of one wire, with so many lanes and streams, over all rounds."""

    wire: str
    lanes: int
    streams: int
    measured_gbit: float
    predicted_gbit: float
    ratio: float
    ratio_min: float
    ratio_max: float
    busy_cores: float


def run(
    lab: Lab, directory: Path, *, n_rounds: int, seconds: float, say: Say
) -> tuple[list[WireCosts], list[Compared]]:
    """Return the costs, over all rounds, and each round's comparisons. Raises FastunError."""
    hosts = {}
    for n_lanes in (1, N_LANES):
        place = directory / f"{n_lanes}"
        place.mkdir()
        hosts[n_lanes] = Hosts(lab, place, suffix=str(n_lanes))
    costs: list[WireCosts] = []
    compared: list[Compared] = []
    for wire in WIRES:
        say(f"{wire.name}: starting")
        with ExitStack() as stack:
            watches = {
                n: Watch(stack.enter_context(hosts[n].tunnel(wire, (n, n))))
                for n in ((1, N_LANES) if wire.has_lanes else (1,))
            }
            rounds = [_Round(wire, watches, seconds, i) for i in range(n_rounds)]
            for one in rounds:
                say(f"{wire.name}: round {one.number + 1}/{n_rounds}")
                compared += one.take()
        by_load = zip(*(one.windows for one in rounds), strict=True)
        costs.append(costs_of(wire, [summed(windows) for windows in by_load]))
    return costs, compared


class _Round:
    """One round of a wire; `windows` are those of its costs."""

    def __init__(self, wire: Wire, watches: dict[int, Watch], seconds: float, number: int) -> None:
        self.number = number
        self.windows: list[Window] = []
        self._wire, self._watches, self._seconds = wire, watches, seconds

    def take(self) -> Iterator[Compared]:
        self.windows = [self._watches[1].take(load, self._seconds) for load in LOADS]
        costs = costs_of(self._wire, self.windows)
        cases = [(n_lanes, n) for n_lanes in self._watches for n in (1, N_STREAMS)]
        first = self.number % len(cases)
        for n_lanes, n_streams in cases[first:] + cases[:first]:
            window = self._watches[n_lanes].take(streams(n_streams), self._seconds)
            yield self._compare(costs, window, n_lanes, n_streams)

    def _compare(self, costs: WireCosts, window: Window, n_lanes: int, n_streams: int) -> Compared:
        n_cores = len(os.sched_getaffinity(0)) - window.others_cores
        machine = Machine(
            cores=max(0.01, n_cores),
            lanes=n_lanes,
            nic_bits_per_second=_NO_NIC_BITS,
            is_shared=True,
        )
        demand: Demand = "one flow" if n_streams == 1 else "many flows"
        found = grid.one(self._wire, costs, machine, demand, SUPER_PACKET)
        return Compared(
            wire=self._wire.name,
            lanes=n_lanes,
            streams=n_streams,
            cores=n_cores,
            measured_bits_per_second=window.bits_per_second,
            predicted_bits_per_second=found.bits_per_second,
            limit=found.limit,
            busy_cores=window.cpu_ns / window.seconds / 1e9,
        )


def summarise(compared: list[Compared]) -> list[Summary]:
    """Return medians over the rounds, in the order in which they were measured first."""
    groups: dict[tuple[str, int, int], list[Compared]] = {}
    for each in compared:
        groups.setdefault((each.wire, each.lanes, each.streams), []).append(each)
    return [
        Summary(
            wire=key[0],
            lanes=key[1],
            streams=key[2],
            measured_gbit=statistics.median(one.measured_bits_per_second for one in group) / 1e9,
            predicted_gbit=statistics.median(one.predicted_bits_per_second for one in group) / 1e9,
            ratio=statistics.median(one.ratio for one in group),
            ratio_min=min(one.ratio for one in group),
            ratio_max=max(one.ratio for one in group),
            busy_cores=statistics.median(one.busy_cores for one in group),
        )
        for key, group in sorted(groups.items(), key=lambda item: _order(item[0]))
    ]


def _order(key: tuple[str, int, int]) -> tuple[int, int, int]:
    return [wire.name for wire in WIRES].index(key[0]), key[1], key[2]
