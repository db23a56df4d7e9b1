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
# What crosses is in no prediction that is checked, so its rounds are fewer.
_CROSSING_MAX = 4
ROUNDS, SECONDS = 20, 0.4


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
    _into_document(stored, file)
    return 0


def _into_document(stored: results.Results, file: Path) -> None:
    tables.into_document(stored, DOCUMENT, f"../bench/results/{file.name}")


def _measure(arguments: Sequence[str], console: Console) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.model --docs (eleven minutes, on an idle machine)",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="of a window")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", type=Path, default=DIRECTORY, metavar="DIR")
    where.add_argument(
        "--docs", action="store_true", help="put the tables into docs/performance.md as well"
    )
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
    if chosen.docs:
        _into_document(measured, file)
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
        hosts = Hosts(lab, Path(directory))
        crossing_ns = measure_crossing(hosts, min(n_rounds, _CROSSING_MAX) * seconds, console.print)
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
    found = compared.summarise(measured.compared)
    console.print(
        f"{tables.verdict(found)} A crossing packet costs "
        f"{measured.costs[0].crossing_ns / 1e3:.2f} µs.",
        soft_wrap=True,
    )
    return 0 if all(map(tables.is_near, found)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
