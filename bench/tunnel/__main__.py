"""Measure fastun beside bare veth and every other tunnel program that is installed.

The result is stored as JSON, with a table (Markdown) and plots (PNG, SVG) beside it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.tunnel import against, crowd, lanes, machine, plot, report
from bench.tunnel import results as result_files
from bench.tunnel.cases import CASES
from bench.tunnel.choice import choose
from bench.tunnel.figures import FIGURES
from bench.tunnel.measures import MEASURES, socket_buffer_bytes
from bench.tunnel.results import Results, Settings
from bench.tunnel.rounds import Run
from fastun.errors import ConfigError, FastunError, RuntimeFailure
from fastun.lab.network import Lab, missing_capability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.tunnel.cases import Case
    from bench.tunnel.measures import Measure

RESULTS_DIRECTORY = machine.CHECKOUT / "bench" / "results"
# The laboratory's own; the programs that are measured may be absent, these may not.
TOOLS = ("ip", "tc", "ss", "ping", "iperf3", "nft", "setpriv")
# --quick has to end within five minutes with all ten cases, on a machine that is prepared.
QUICK = {"rounds": 2, "seconds": 1, "trials": 4}
THOROUGH = {"rounds": 5, "seconds": 3, "trials": 8}


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line of a run; SystemExit(2) if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="./run bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="./run bench show FILE renders a stored result\n"
        "./run bench against CHECKOUT compares this version with another one\n"
        "./run bench crowd measures the memory that a peer costs\n"
        "./run bench lanes measures what several lanes cost",
    )
    cases, measures = ([one.name for one in known] for known in (CASES, MEASURES))
    parser.add_argument(
        "--quick", action="store_true", help="fewer measures, shorter, fewer rounds"
    )
    parser.add_argument("--cases", metavar="A,B", help=f"of: {', '.join(cases)}")
    parser.add_argument("--measures", metavar="A,B", help=f"of: {', '.join(measures)}")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="default: 5, quick 2")
    parser.add_argument("--seconds", type=_positive, metavar="S", help="a transfer; 3, quick 1")
    parser.add_argument("--output", type=Path, default=RESULTS_DIRECTORY, metavar="DIR")
    chosen = parser.parse_args(arguments)
    try:
        chosen.cases = choose(chosen.cases, CASES)
        quick = [measure for measure in MEASURES if measure.is_quick or not chosen.quick]
        chosen.measures = quick if chosen.measures is None else choose(chosen.measures, MEASURES)
    except ConfigError as error:
        parser.error(str(error))
    return chosen


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 on")
    return int(text)


def check_system(output: Path) -> None:
    """Make sure that a run can begin and be stored; RuntimeFailure with the fix if not."""
    if lacking := missing_capability():
        raise RuntimeFailure(f"namespaces and tunnels need {lacking}")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise RuntimeFailure(f"not installed: {', '.join(missing)}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RuntimeFailure(f"--output {output}: {error.strerror}") from error
    if not os.access(output, os.W_OK):
        raise RuntimeFailure(f"--output {output}: not writable")


def run(
    cases: Sequence[Case], measures: Sequence[Measure], settings: Settings, progress: Progress
) -> Results:
    """Measure in a laboratory that is gone when this returns or raises."""
    n_steps = len(cases) * (1 + len(measures) * settings.n_rounds)
    task = progress.add_task("", total=n_steps)

    def say(what: str) -> None:
        progress.update(task, advance=1, description=what)
        if not progress.console.is_terminal:
            progress.console.print(what, highlight=False)

    began, began_s = dt.datetime.now(dt.UTC), time.monotonic()
    load_average = os.getloadavg()[0]  # before this run adds to it
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastun-bench-"))
        lab = stack.enter_context(Lab())
        measured = Run(lab, Path(directory), settings, say)
        measured.bring_up(cases)
        facts = machine.describe(lab.congestion_control, load_average)
        measured.measure(measures)
    return Results(
        date=began.isoformat(timespec="seconds"),
        duration_s=round(time.monotonic() - began_s, 1),
        machine=facts,
        settings=settings,
        idle_shares=measured.idle_shares,
        figures=FIGURES,
        cases=measured.cases,
    )


def store(results: Results, directory: Path) -> list[Path]:
    """Write the result, its table and its plots; return the files. RuntimeFailure if it cannot."""
    when = dt.datetime.fromisoformat(results.date).strftime("%Y-%m-%dT%H%M%S")
    stem = directory / (f"{when}-quick" if results.settings.is_quick else when)
    json_file, table_file = (stem.with_suffix(suffix) for suffix in (".json", ".md"))
    try:
        result_files.write(results, json_file)
        table_file.write_text(report.as_markdown(results), encoding="utf-8")
        return [json_file, table_file, *plot.write_plots(results, stem)]
    except OSError as error:
        raise RuntimeFailure(f"{directory}: the result cannot be stored: {error}") from error


def benchmark(chosen: argparse.Namespace, console: Console) -> int:
    """Measure, store and print; return the exit code. Raises FastunError."""
    check_system(chosen.output)
    defaults = QUICK if chosen.quick else THOROUGH
    settings = Settings(
        is_quick=chosen.quick,
        n_rounds=chosen.rounds or defaults["rounds"],
        seconds=chosen.seconds or defaults["seconds"],
        n_trials=defaults["trials"],
        socket_buffer_bytes=socket_buffer_bytes(),
    )
    for case in chosen.cases:
        if absent := case.absent_programs():
            console.print(f"left out: {case.title} (not installed: {', '.join(absent)})")
    progress = Progress(
        SpinnerColumn("line"),
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # a file gets the steps as lines instead
    )
    with progress:
        results = run(chosen.cases, chosen.measures, settings, progress)
    files = store(results, chosen.output)
    report.print_report(results, console)
    console.print(*(f"stored: {file}" for file in files), sep="\n", markup=False, soft_wrap=True)
    return 0 if results.installed_worked else 1


def show(arguments: Sequence[str], console: Console) -> int:
    """Print a stored result; return the exit code. Raises FastunError."""
    parser = argparse.ArgumentParser(
        prog="./run bench show", description="Render the table of a stored result."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the JSON of a run")
    report.print_report(result_files.read(parser.parse_args(arguments).file), console)
    return 0


def main(arguments: Sequence[str]) -> int:
    """Entry point: 0 if every installed case worked, 1 if not, 2 for a wrong command line."""
    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False)
    others = {
        "show": show,
        "against": against.main,
        "crowd": crowd.main,
        "lanes": lanes.main,
    }
    try:
        if arguments and arguments[0] in others:
            return others[arguments[0]](arguments[1:], console)
        return benchmark(parse_arguments(arguments), console)
    except KeyboardInterrupt:
        errors.print("interrupted")
    except FastunError as error:
        errors.print(f"[bold red]bench:[/] {escape(str(error))}", soft_wrap=True)
        return error.exit_code
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
