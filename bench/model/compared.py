"""Rounds in which costs are measured, and between them what they are to predict.

In each round, for each wire, all windows one after the other, in the other order every second
round: those of the costs, which are taken with one lane, and TCP streams, one and eight, with one
lane and with two. A window that is predicted is beside the one that says most about it, so that
what slows this machine for some seconds slows both. Both ends are on this machine's cores, less
those that something else was busy with meanwhile.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bench.tunnel.turns import interval
from fastun.bench.model import grid
from fastun.bench.model.costs import (
    HALF,
    LOADS,
    MANY,
    SHORT_PACKETS,
    SMALL,
    STREAM,
    Hosts,
    costs_of,
    summed,
)
from fastun.bench.model.figures import Window, WireCosts
from fastun.bench.model.prediction import Machine
from fastun.bench.model.windows import Load, Watch, streams
from fastun.bench.model.wires import SUPER_PACKET, WIRES

if TYPE_CHECKING:
    from fastun.bench.model.prediction import Demand
    from fastun.bench.model.wires import Wire
    from fastun.lab.network import Lab

N_STREAMS = 8
N_LANES = 2
# A veth pair has no speed of its own.
_NO_NIC_BITS = 1e15
# What others use is known to a tick; less than this is not nothing.
_CORES_MIN = 0.01
# Which tunnels of a wire: with one lane, with two, and two tunnels with one lane each.
_ONE, _TWO, _BOTH = "one lane", "two lanes", "two tunnels"

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
    predicted_busy_cores: float
    whole_share: float

    @property
    def ratio(self) -> float:
        """Of the prediction to what was measured."""
        return self.predicted_bits_per_second / self.measured_bits_per_second


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Of one wire, with so many lanes and streams, over all rounds.

    ``low`` to ``high`` holds the true ratio with a confidence of 95 %, if rounds are enough.
    """

    wire: str
    lanes: int
    streams: int
    measured_gbit: float
    predicted_gbit: float
    ratio: float
    low: float
    high: float
    ratio_min: float
    ratio_max: float
    busy_cores: float
    predicted_busy_cores: float
    whole_share: float


class _Case(NamedTuple):
    """A window of a round: a load, and the tunnels that it goes through.

    ``predicted`` has the lanes and the streams of one that is predicted; the others are of costs.
    """

    tunnels: str
    load: Load
    predicted: tuple[int, int] | None = None


def _predicted(tunnels: str, n_streams: int) -> _Case:
    n_lanes = N_LANES if tunnels == _TWO else 1
    return _Case(tunnels, streams(n_streams), (n_lanes, n_streams))


_CROWDED = _Case(_BOTH, HALF)
# They tell a frame, a packet and a byte apart, and say little of a stream: not in every round.
_SEPARATING = (_Case(_ONE, SHORT_PACKETS), _Case(_ONE, SMALL))
_SEPARATED_EVERY = 3
# Then tunnels are started anew: on UDP flows that share a place with one that has lost packets are
# split as well, for a minute at most, so in the end most of them would be.
_ROUNDS_A_START = 4
#: What is predicted is beside what predicts it.
CASES = (
    _predicted(_TWO, 1),
    _Case(_ONE, STREAM),
    _predicted(_ONE, 1),
    *_SEPARATING,
    _predicted(_ONE, N_STREAMS),
    _Case(_ONE, MANY),
    _CROWDED,
    _predicted(_TWO, N_STREAMS),
)


def run(
    lab: Lab, directory: Path, *, n_rounds: int, seconds: float, say: Say
) -> tuple[list[WireCosts], list[Compared]]:
    """Return the costs, over all rounds, and each round's comparisons. Raises FastunError."""
    one, two, beside = (Hosts(lab, directory, suffix) for suffix in ("1", "2", "3"))
    costs: list[WireCosts] = []
    compared: list[Compared] = []
    for wire in WIRES:
        rounds = _Rounds(wire, seconds)
        for first_round in range(0, n_rounds, _ROUNDS_A_START):
            say(f"{wire.name}: starting")
            with ExitStack() as stack:
                first = stack.enter_context(one.tunnel(wire))
                watches = {_ONE: Watch(first)}
                if wire.has_lanes:
                    second = stack.enter_context(two.tunnel(wire, (N_LANES, N_LANES)))
                    third = stack.enter_context(beside.tunnel(wire))
                    watches |= {_TWO: Watch(second), _BOTH: Watch(first, third)}
                for number in range(n_rounds)[first_round : first_round + _ROUNDS_A_START]:
                    say(f"{wire.name}: round {number + 1}/{n_rounds}")
                    compared += rounds.take(number, watches)
        costs.append(rounds.costs())
    return costs, compared


class _Rounds:
    """The rounds of a wire, and all windows that they have taken."""

    def __init__(self, wire: Wire, seconds: float) -> None:
        self._wire, self._seconds = wire, seconds
        self._taken: dict[_Case, list[Window]] = {}

    def take(self, number: int, watches: Mapping[str, Watch]) -> Iterator[Compared]:
        """Take a round of these tunnels; yield its comparisons."""
        cases = [
            case
            for case in CASES
            if case.tunnels in watches
            and (case not in _SEPARATING or number % _SEPARATED_EVERY == 0)
        ]
        for case in cases[:: -1 if number % 2 else 1]:
            window = watches[case.tunnels].take(case.load, self._seconds)
            self._taken.setdefault(case, []).append(window)
        latest = {case: windows[-1] for case, windows in self._taken.items()}
        costs = self._costs_of(latest)
        for case in cases:
            if case.predicted:
                yield self._compare(costs, latest[case], *case.predicted)

    def costs(self) -> WireCosts:
        """Return the costs over all rounds."""
        return self._costs_of({case: summed(windows) for case, windows in self._taken.items()})

    def _costs_of(self, taken: Mapping[_Case, Window]) -> WireCosts:
        windows = [taken[_Case(_ONE, load)] for load in LOADS]
        return costs_of(self._wire, windows, taken.get(_CROWDED))

    def _compare(self, costs: WireCosts, window: Window, n_lanes: int, n_streams: int) -> Compared:
        n_cores = len(os.sched_getaffinity(0))
        machine = Machine(
            cores=n_cores,
            others_cores=min(window.others_cores, n_cores - _CORES_MIN),
            lanes=n_lanes,
            nic_bits_per_second=_NO_NIC_BITS,
            is_shared=True,
        )
        demand: Demand = "one flow" if n_streams == 1 else "many flows"
        share = window.whole_share
        found = grid.one(self._wire, costs, machine, demand, SUPER_PACKET, whole_share=share)
        return Compared(
            wire=self._wire.name,
            lanes=n_lanes,
            streams=n_streams,
            cores=machine.cores - machine.others_cores,
            measured_bits_per_second=window.bits_per_second,
            predicted_bits_per_second=found.bits_per_second,
            limit=found.limit,
            busy_cores=window.cpu_ns / window.seconds / 1e9,
            predicted_busy_cores=found.busy_cores,
            whole_share=window.whole_share,
        )


def summarise(compared: list[Compared]) -> list[Summary]:
    """Return medians over the rounds, in the order in which they were measured first."""
    groups: dict[tuple[str, int, int], list[Compared]] = {}
    for each in compared:
        groups.setdefault((each.wire, each.lanes, each.streams), []).append(each)
    return [_summary(groups[key]) for key in sorted(groups, key=_order)]


def _summary(group: list[Compared]) -> Summary:
    ratios = [one.ratio for one in group]
    low, high = interval(ratios)
    return Summary(
        wire=group[0].wire,
        lanes=group[0].lanes,
        streams=group[0].streams,
        measured_gbit=statistics.median(one.measured_bits_per_second for one in group) / 1e9,
        predicted_gbit=statistics.median(one.predicted_bits_per_second for one in group) / 1e9,
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        busy_cores=statistics.median(one.busy_cores for one in group),
        predicted_busy_cores=statistics.median(one.predicted_busy_cores for one in group),
        whole_share=statistics.median(one.whole_share for one in group),
    )


def _order(key: tuple[str, int, int]) -> tuple[int, int, int]:
    return [wire.name for wire in WIRES].index(key[0]), key[1], key[2]
