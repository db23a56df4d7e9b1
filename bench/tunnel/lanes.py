"""What several lanes cost where there is no core for them: fastun with 2 and 4 beside 1.

All take turns; what counts is the ratio within a round (turns.py). On a
machine with cores to spare lanes gain goodput; here they should lose nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil

from bench.tunnel.cases import OURS, Case
from bench.tunnel.cpu import IDLE_SHARE_MAX, Spent, processes_cpu_s
from bench.tunnel.figures import HIGHER, LOWER, Figure
from bench.tunnel.measures import Figures, Measure, Subject, socket_buffer_bytes
from bench.tunnel.programs import fastun
from bench.tunnel.report import Grid
from bench.tunnel.turns import ROUNDS_MIN, interval, parse_turns, take_turns
from fastun.lab.host import wait_until
from fastun.lab.traffic import iperf3
from fastun.native import ROLES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from bench.tunnel.pair import Pair
    from bench.tunnel.results import CaseResult, Settings
    from fastun.endpoint import Scheme

LANES: Final = (1, 2, 4)
# A ratio whose interval does not reach this far is a loss.
LEAST_RATIO: Final = 0.95
_WIRES: Final[tuple[Scheme, ...]] = ("tcp", "udp")
_UNIT_BYTES: Final = 64 * 1024
_PAYLOAD_BYTES: Final = 64
# Far below what any case carries, so that all carry the same.
_PACKETS_A_SECOND: Final = 20_000
_AT_ONCE: Final = (sys.executable, "-m", "fastun.bench.model.all_lanes")

FIGURES: Final = (
    Figure("cpu-1", "CPU per 64 KiB, one stream", "us", LOWER),
    Figure("machine-1", "CPU per 64 KiB, one stream, whole machine", "us", LOWER),
    Figure("switches-1", "context switches per 64 KiB, one stream", "", LOWER),
    Figure("goodput-1", "goodput, one stream", "Gbit/s", HIGHER),
    Figure("cpu-4", "CPU per 64 KiB, four streams", "us", LOWER),
    Figure("machine-4", "CPU per 64 KiB, four streams, whole machine", "us", LOWER),
    Figure("switches-4", "context switches per 64 KiB, four streams", "", LOWER),
    Figure("goodput-4", "goodput, four streams", "Gbit/s", HIGHER),
    Figure("cpu-packets", "CPU per packet of 64 bytes", "us", LOWER),
    Figure("switches-packets", "context switches per packet of 64 bytes", "", LOWER),
)


class _Switches(NamedTuple):
    """How often processes have gone to sleep, or were made to wait."""

    n: int

    @classmethod
    def of(cls, pids: Sequence[int]) -> _Switches:
        both = (psutil.Process(pid).num_ctx_switches() for pid in pids)
        return cls(sum(one.voluntary + one.involuntary for one in both))


def streams(subject: Subject, *, n_streams: int) -> Figures:
    """Transfer by TCP streams, both ways one after the other; return goodput and what it took."""
    pair = subject.pair
    pids = pair.program_pids()
    spent, before = Spent(pids, subject.idle_share), _Switches.of(pids)
    results = [
        iperf3(
            pair.client,
            pair.server,
            subject.server.bare_v4,
            duration_s=subject.seconds,
            n_streams=n_streams,
            reverse=reverse,
        )
        for reverse in (False, True)
    ]
    machine_s, programs_s = spent.so_far()
    n_units = sum(result.n_bytes for result in results) / _UNIT_BYTES
    figures = {
        f"cpu-{n_streams}": programs_s * 1e6 / n_units,
        f"switches-{n_streams}": (_Switches.of(pids).n - before.n) / n_units,
        f"goodput-{n_streams}": statistics.mean(result.gbit_per_second for result in results),
    }
    if subject.idle_share <= IDLE_SHARE_MAX:
        figures[f"machine-{n_streams}"] = machine_s * 1e6 / n_units
    return figures


def packets(subject: Subject) -> Figures:
    """Return what a small packet costs at a rate that is the same for all."""
    pair = subject.pair
    pids = pair.program_pids()
    before_s, before = processes_cpu_s(pids), _Switches.of(pids)
    result = iperf3(
        pair.client,
        pair.server,
        subject.server.bare_v4,
        duration_s=subject.seconds,
        udp_bits_per_second=_PACKETS_A_SECOND * _PAYLOAD_BYTES * 8,
        size_bytes=_PAYLOAD_BYTES,
        buffer_bytes=socket_buffer_bytes(),
    )
    n_packets = result.n_bytes / _PAYLOAD_BYTES
    return {
        "cpu-packets": (processes_cpu_s(pids) - before_s) * 1e6 / n_packets,
        "switches-packets": (_Switches.of(pids).n - before.n) / n_packets,
    }


MEASURES: Final = (
    Measure("one stream", partial(streams, n_streams=1)),
    Measure("four streams", partial(streams, n_streams=4)),
    Measure("packets of 64 bytes", packets),
)


class Ratio(NamedTuple):
    """A figure with several lanes beside the same with one; above 1 several are better."""

    figure: Figure
    n_lanes: int
    with_one: float
    with_several: float
    ratio: float
    low: float
    high: float

    @property
    def is_loss(self) -> bool:
        """Whether several lanes are surely worse by more than is allowed.

        Switches say where CPU time goes, and are no cost of their own.
        """
        return self.high < LEAST_RATIO and not self.figure.name.startswith("switches")


def ratios(by_lanes: Mapping[int, CaseResult]) -> list[Ratio]:
    """Return how each figure of one wire is with several lanes, as far as it was taken."""
    found = []
    for figure in FIGURES:
        one = by_lanes[1].values.get(figure.name, [])
        for n_lanes, case in by_lanes.items():
            several = case.values.get(figure.name, [])
            if n_lanes == 1 or min(len(one), len(several)) < ROUNDS_MIN:
                continue
            is_more = figure.better == HIGHER
            of_rounds = [
                theirs / mine if is_more else mine / theirs
                for mine, theirs in zip(one, several, strict=True)
                if mine and theirs
            ]
            middles = (statistics.median(one), statistics.median(several))
            middle = statistics.median(of_rounds)
            found.append(Ratio(figure, n_lanes, *middles, middle, *interval(of_rounds)))
    return found


def as_grid(scheme: Scheme, found: Sequence[Ratio], n_rounds: int) -> Grid:
    """Return them as a table."""
    grid = Grid(
        f"{scheme}: several lanes by one, {n_rounds} rounds; above 1 is better",
        ["", "lanes", "one", "several", "ratio", "95 % from", "to", ""],
    )
    for each in found:
        figures = (f"{each.with_one:.3g}", f"{each.with_several:.3g}")
        cells = (f"{value:.3f}" for value in (each.ratio, each.low, each.high))
        title = f"{each.figure.title} {each.figure.unit}".strip()
        last = "LOSS" if each.is_loss else ""
        grid.rows.append([title, str(each.n_lanes), *figures, *cells, last])
    return grid


class How(NamedTuple):
    """How the lanes of all cases are run."""

    at_once: bool = False  # all are open, whether there is a core for them or not
    is_pinned: bool = False  # each lane's workers have one core, the next lane's the next


def _start(pair: Pair, scheme: Scheme, n_lanes: int, how: How) -> None:
    options = ("--lanes", str(n_lanes))
    program = _AT_ONCE if how.at_once else ()
    fastun.start(pair, wire="wireguard", scheme=scheme, options=options, program=program)
    if how.is_pinned:
        n_workers = 2 * len(ROLES) * n_lanes
        wait_until(lambda: len(_workers(pair)) == n_workers, "all workers", timeout_s=20)
        cores = sorted(os.sched_getaffinity(0))
        for pid, lane in _workers(pair).items():
            os.sched_setaffinity(pid, {cores[lane % len(cores)]})


def _workers(pair: Pair) -> dict[int, int]:
    """Return the lane of each worker of a pair, by its process."""
    found = {}
    for pid in pair.program_pids():
        with suppress(psutil.Error):
            title = psutil.Process(pid).cmdline()[:1]
            role, _, lane = "".join(title).removeprefix("fastun: ").partition("/")
            if role in ROLES:
                found[pid] = int(lane)
    return found


def _cases(schemes: Sequence[Scheme], how: How) -> dict[Scheme, dict[int, Case]]:
    return {
        scheme: {
            n: Case(
                f"{scheme}-{n}",
                f"{scheme}, {n} lanes",
                OURS,
                partial(_start, scheme=scheme, n_lanes=n, how=how if n > 1 else How()),
            )
            for n in LANES
        }
        for scheme in schemes
    }


def measure(
    schemes: Sequence[Scheme], settings: Settings, console: Console, how: How
) -> dict[Scheme, list[Ratio]]:
    """Measure all on these wires. Raises FastunError."""
    cases = _cases(schemes, how)
    in_order = [case for by_lanes in cases.values() for case in by_lanes.values()]
    results = take_turns(in_order, MEASURES, settings, partial(console.print, highlight=False))
    return {
        scheme: ratios({n: results[case.name] for n, case in by_lanes.items()})
        for scheme, by_lanes in cases.items()
    }


def main(arguments: Sequence[str], console: Console) -> int:
    """Measure and print; return 1 where several lanes have lost. Raises FastunError."""
    parser = argparse.ArgumentParser(
        prog="./run bench lanes", description="Measure what 2 and 4 lanes cost beside 1."
    )
    parser.add_argument("--wire", choices=_WIRES, help="one of them; else both")
    parser.add_argument(
        "--at-once", action="store_true", help="all lanes open, as with workers.lanes_at_once"
    )
    parser.add_argument(
        "--pinned", action="store_true", help="each lane's workers kept on one core"
    )
    chosen, settings = parse_turns(parser, arguments, n_trials=1)
    schemes = (chosen.wire,) if chosen.wire else _WIRES
    how = How(chosen.at_once, chosen.pinned)
    found = measure(schemes, settings, console, how)
    for scheme, of_wire in found.items():
        console.print(as_grid(scheme, of_wire, chosen.rounds).as_markdown(), soft_wrap=True)
    return 1 if any(each.is_loss for of_wire in found.values() for each in of_wire) else 0
