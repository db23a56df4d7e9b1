"""The model of `fastun bench --model`, checked: what it predicts for one and two lanes, measured.

The result is stored as JSON. `show FILE` prints a stored one, `docs FILE` puts its tables into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs
from rich.console import Console
from rich.markup import escape

from bench.model import compared, results, tables
from bench.tunnel import machine
from bench.tunnel.results import write
from fastun.bench.model import processors
from fastun.bench.model.costs import Hosts, measure_crossing
from fastun.errors import FastunError, RuntimeFailure
from fastun.lab.network import Lab, missing_capability

if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECTORY = machine.CHECKOUT / "bench" / "results"
DOCUMENT = machine.CHECKOUT / "docs" / "performance.md"


def main(arguments: Sequence[str]) -> int:
    """Entry point: 0 if every prediction is within 15 %, 1 if not, 2 for a wrong command line."""
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    try:
        if arguments[:1] in (["show"], ["docs"]):
            return _stored(arguments, console)
        return _measure(arguments, console)
    except KeyboardInterrupt:
        errors.print("interrupted")
    except FastunError as error:
        errors.print(f"[bold red]bench:[/] {escape(str(error))}", soft_wrap=True)
        return error.exit_code
    return 1


def _stored(arguments: Sequence[str], console: Console) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m bench.model {arguments[0]}")
    parser.add_argument("file", type=Path, metavar="FILE", help="the JSON of a run")
    file: Path = parser.parse_args(arguments[1:]).file
    stored = results.read(file)
    if arguments[0] == "show":
        return _report(stored, console)
    if file.resolve().parent != DIRECTORY:
        raise RuntimeFailure(f"{file}: not in {DIRECTORY}, where documents find it; move it there")
    tables.into_document(stored, DOCUMENT, f"../bench/results/{file.name}")
    return 0


def _measure(arguments: Sequence[str], console: Console) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.model --rounds 9 (some eight minutes)",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of each window")
    parser.add_argument("--output", type=Path, default=DIRECTORY, metavar="DIR")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1 or not 0.2 <= chosen.seconds <= 60:
        parser.error("--rounds must be 1 or more, --seconds 0.2 to 60")
    if lacking := missing_capability():
        raise RuntimeFailure(f"namespaces and tunnels need {lacking}")
    measured = _run(chosen.rounds, chosen.seconds, console)
    when = dt.datetime.fromisoformat(measured.date).strftime("%Y-%m-%dT%H%M%S")
    file = chosen.output / f"model-{when}.json"
    try:
        write(measured, file)
    except OSError as error:
        raise RuntimeFailure(f"{file}: the result cannot be stored: {error}") from error
    console.print(f"stored: {file}", soft_wrap=True)
    return _report(measured, console)


def _run(n_rounds: int, seconds: float, console: Console) -> results.Results:
    began, began_s, load = dt.datetime.now(dt.UTC), time.monotonic(), os.getloadavg()[0]
    with (
        processors.few(),
        tempfile.TemporaryDirectory(prefix="fastun-bench-") as directory,
        Lab() as lab,
    ):
        costs, each_round = compared.run(
            lab, Path(directory), n_rounds=n_rounds, seconds=seconds, say=console.print
        )
        place = Path(directory) / "crossing"
        place.mkdir()
        crossing_ns = measure_crossing(Hosts(lab, place), n_rounds * seconds, console.print)
        facts = machine.describe(lab.congestion_control, load)
    return results.Results(
        date=began.isoformat(timespec="seconds"),
        duration_s=round(time.monotonic() - began_s, 1),
        machine=facts,
        n_rounds=n_rounds,
        seconds=seconds,
        costs=[structs.replace(each, crossing_ns=crossing_ns) for each in costs],
        compared=each_round,
    )


def _report(measured: results.Results, console: Console) -> int:
    for table in (tables.other_machines(measured), tables.comparison(measured)):
        console.print(table.as_table())
    worst = tables.worst_ratio(measured)
    is_near = tables.RATIO_MIN <= worst <= tables.RATIO_MAX
    console.print(
        f"predicted : measured, furthest from 1: {worst:.2f}; "
        f"{'all' if is_near else 'not all'} within 15 %; a crossing packet costs "
        f"{measured.costs[0].crossing_ns / 1e3:.2f} µs"
    )
    return 0 if is_near else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
