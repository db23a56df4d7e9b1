"""Results beside the stored baseline: how each ratio to its calibration loop has changed.

    python -m bench.micro.compare [RESULT.json ...]            print a table
    python -m bench.micro.compare --renew [RESULT.json ...]    make the results the baseline

Of several results each subject's least ratio counts: what else runs on the machine lasts longer
than all rounds of one subject, but rarely meets the same one in every run.
Exit code: 1 if anything became slower, 2 for a wrong command line or a file that cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.micro.ratios import (
    BASELINE,
    RESULTS,
    Machine,
    Ratio,
    Ratios,
    least,
    newest_results,
    read_baseline,
    read_result,
    write_baseline,
)
from fastun.errors import FastunError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What two runs of one commit differ by on a machine that does other things, and some more.
TOLERANCE = 0.3

SAME, SLOWER, FASTER = "same", "slower", "faster"
NEW, MISSING, RECALIBRATED = "new", "not measured", "another calibration"

# -- comparison ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """One subject, in the baseline and now; None where it is not."""

    subject: str
    before: Ratio | None
    now: Ratio | None

    @property
    def factor(self) -> float | None:
        """How many times its time in the baseline it takes now; None if that cannot be said."""
        if not self.before or not self.now or self.before.calibration != self.now.calibration:
            return None
        return self.now.ratio / self.before.ratio

    def verdict(self, tolerance: float) -> str:
        """Return what to make of it; equal deviations up and down are equal factors."""
        if self.factor is None:
            return MISSING if not self.now else RECALIBRATED if self.before else NEW
        if self.factor > 1 + tolerance:
            return SLOWER
        return FASTER if self.factor < 1 / (1 + tolerance) else SAME


def changes(baseline: Ratios, now: Ratios) -> list[Change]:
    """Return every subject of either, those of the baseline first."""
    names = dict.fromkeys([*baseline.ratios, *now.ratios])
    return [Change(name, baseline.ratios.get(name), now.ratios.get(name)) for name in names]


def as_table(listed: Sequence[Change], tolerance: float) -> Table:
    """Return the table for the terminal."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("subject")
    for heading in ("baseline", "now"):
        table.add_column(heading, justify="right")
    table.add_column("of a round of")
    table.add_column("factor", justify="right")
    table.add_column("")
    for change in listed:
        known = change.now or change.before
        table.add_row(
            change.subject,
            *(f"{ratio.ratio:.4g}" if ratio else "-" for ratio in (change.before, change.now)),
            known.calibration if known else "",
            f"{change.factor:.2f}" if change.factor is not None else "-",
            "" if (verdict := change.verdict(tolerance)) == SAME else verdict,
        )
    return table


def differences(baseline: Machine, now: Machine) -> list[str]:
    """Return what is not the same about the machines, a line each."""
    before, after = msgspec.structs.asdict(baseline), msgspec.structs.asdict(now)
    return [
        f"{name}: {before[name] or '?'} in the baseline, {after[name] or '?'} here"
        for name in before
        if before[name] != after[name]
    ]


# -- command line ----------------------------------------------------------------------------------


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; SystemExit(2) if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.micro.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", type=Path, nargs="*", metavar="RESULT.json", help="default: the newest"
    )
    parser.add_argument("--baseline", type=Path, default=BASELINE, metavar="FILE")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="SHARE",
        help="a subject is slower beyond this; default: %(default)s",
    )
    parser.add_argument("--renew", action="store_true", help="write the baseline anew")
    return parser.parse_args(arguments)


def compare(chosen: argparse.Namespace, console: Console) -> int:
    """Print the table, or renew the baseline; return the exit code. Raises FastunError."""
    now = least([read_result(file) for file in chosen.files or newest_results(RESULTS)])
    if chosen.renew:
        write_baseline(now, chosen.baseline)
        console.print(f"written: {chosen.baseline}", markup=False, soft_wrap=True)
        return 0
    baseline = read_baseline(chosen.baseline)
    listed = changes(baseline, now)
    console.print(as_table(listed, chosen.tolerance))
    for line in differences(baseline.machine, now.machine):
        console.print(line, markup=False, soft_wrap=True)
    slower = [change.subject for change in listed if change.verdict(chosen.tolerance) == SLOWER]
    if slower:
        console.print(f"slower by more than {chosen.tolerance:.0%}: {', '.join(slower)}")
    return 1 if slower else 0


def main(arguments: Sequence[str]) -> int:
    """Entry point."""
    try:
        return compare(parse_arguments(arguments), Console(highlight=False))
    except FastunError as error:
        errors = Console(stderr=True, highlight=False)
        errors.print(f"[bold red]compare:[/] {escape(str(error))}", soft_wrap=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
