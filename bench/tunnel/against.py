"""Measure this checkout beside another one of fastun: what a change costs, or gains.

Or beside itself with nothing confined: what that costs.

What counts is the ratio within a round (turns.py). Of the rounds' ratios the median is shown, with
the interval that holds the true one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.tunnel.cases import OURS, Case
from bench.tunnel.choice import choose
from bench.tunnel.figures import FIGURES, HIGHER
from bench.tunnel.measures import MEASURES
from bench.tunnel.programs import fastun
from bench.tunnel.report import Grid
from bench.tunnel.results import Settings
from bench.tunnel.turns import ROUNDS_MIN, interval, parse_turns, take_turns
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from bench.tunnel.measures import Measure
    from bench.tunnel.results import CaseResult
    from fastun.endpoint import Scheme

UNCONFINED = (sys.executable, "-m", "bench.tunnel.programs.unconfined")
# A ratio whose interval does not reach this far is a loss, not noise.
LEAST_RATIO = 0.97


class _Wire(NamedTuple):
    """By what both versions are joined."""

    name: str
    title: str
    wire: str
    scheme: Scheme


_WIRES: Final = (
    _Wire("plain-tcp", "plain TCP", "plain", "tcp"),
    _Wire("secure-tcp", "secure TCP", "wireguard", "tcp"),
    _Wire("secure-udp", "secure UDP", "wireguard", "udp"),
)
# Unless others are chosen.
_COMPARED: Final = (
    *("one-stream", "four-streams", "idle-ping", "request-response"),
    *("packets-64", "packets-1200", "memory"),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of one wire, this version by the other; above 1 this one is better."""

    wire: str
    figure: str
    ratio: float
    low: float
    high: float

    @property
    def is_loss(self) -> bool:
        """Whether this version is surely worse than the other by more than noise."""
        return self.high < LEAST_RATIO


def compare(wire: str, this: CaseResult, other: CaseResult) -> list[Comparison]:
    """Return how the two versions compare on one wire, in the order of the figures.

    What was taken too seldom to be sure of anything is left out.
    """
    found = []
    for figure in FIGURES:
        rounds = (case.values.get(figure.name, ()) for case in (this, other))
        ratios = [
            mine / theirs if figure.better == HIGHER else theirs / mine
            for mine, theirs in zip(*rounds, strict=True)
            if mine and theirs
        ]
        if len(ratios) >= ROUNDS_MIN:
            found.append(
                Comparison(wire, figure.title, statistics.median(ratios), *interval(ratios))
            )
    return found


def as_grid(comparisons: Sequence[Comparison], n_rounds: int) -> Grid:
    """Return the comparisons as a table."""
    grid = Grid(
        f"This checkout by the other one, {n_rounds} rounds; above 1 is better",
        ["", "median", "95 % from", "to", ""],
    )
    for one in comparisons:
        cells = (f"{value:.3f}" for value in (one.ratio, one.low, one.high))
        grid.rows.append([f"{one.wire}: {one.figure}", *cells, "LOSS" if one.is_loss else ""])
    return grid


def program_of(checkout: Path) -> Path:
    """Return the fastun of a checkout that is built; ConfigError if there is none."""
    program = checkout.resolve() / ".venv" / "bin" / "fastun"
    if not program.exists():
        raise ConfigError(f"{checkout}: no .venv/bin/fastun; build it there first: ./run demo")
    return program


def _pair_of_cases(of: _Wire, other: Sequence[str]) -> tuple[Case, Case]:
    def case(version: str, program: tuple[str, ...]) -> Case:
        start = partial(fastun.start, wire=of.wire, scheme=of.scheme, program=program)
        return Case(f"{version}-{of.name}"[:20], f"{of.title}, {version}", OURS, start)

    return case("this", ()), case("other", tuple(other))


def measure(
    other: Sequence[str],
    settings: Settings,
    console: Console,
    wires: Sequence[_Wire] = _WIRES,
    measures: Sequence[Measure] = MEASURES,
) -> list[Comparison]:
    """Measure both versions on these wires. Raises FastunError."""
    pairs = [_pair_of_cases(one, other) for one in wires]
    cases = [case for pair in pairs for case in pair]
    say = partial(console.print, highlight=False)
    results = take_turns(cases, measures, settings, say)
    return [
        one
        for (this, theirs), wire in zip(pairs, wires, strict=True)
        for one in compare(wire.title, results[this.name], results[theirs.name])
    ]


def main(arguments: Sequence[str], console: Console) -> int:
    """Measure and print; return 1 where this version has lost. Raises FastunError."""
    parser = argparse.ArgumentParser(
        prog="./run bench against", description="Measure this checkout beside another version's."
    )
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument(
        "checkout", type=Path, nargs="?", metavar="CHECKOUT", help="built by its own ./run"
    )
    other.add_argument(
        "--unconfined", action="store_true", help="this checkout, with no process confined"
    )
    wires, measures = (", ".join(one.name for one in known) for known in (_WIRES, MEASURES))
    parser.add_argument("--wires", metavar="A,B", help=f"of: {wires}")
    parser.add_argument(
        "--measures",
        metavar="A,B",
        default=",".join(_COMPARED),
        help=f"of: {measures}; default: %(default)s",
    )
    chosen, settings = parse_turns(parser, arguments, n_trials=4)
    try:
        choice = choose(chosen.wires, _WIRES), choose(chosen.measures, MEASURES)
    except ConfigError as error:
        parser.error(str(error))
    program = UNCONFINED if chosen.unconfined else (str(program_of(chosen.checkout)),)
    comparisons = measure(program, settings, console, *choice)
    console.print(as_grid(comparisons, chosen.rounds).as_table())
    return 1 if any(one.is_loss for one in comparisons) else 0
