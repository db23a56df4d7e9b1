"""A result as tables: the short one and one a figure, for the terminal and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from bench.tunnel.comparison import compare
from bench.tunnel.cpu import IDLE_SHARE_MAX
from bench.tunnel.results import OK

if TYPE_CHECKING:
    from rich.console import Console

    from bench.tunnel.figures import Figure
    from bench.tunnel.results import Results

_MINUTE_S = 60


@dataclass(slots=True)
class Grid:
    """A table before it is rendered: the first column is text, the others are figures."""

    title: str
    headings: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def as_table(self) -> Table:
        """Return it for the terminal."""
        table = Table(
            title=self.title,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 0, 0, 1),
        )
        table.add_column(self.headings[0], no_wrap=True)
        for heading in self.headings[1:]:
            table.add_column(heading, justify="right")
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def as_markdown(self) -> str:
        """Return it as a table of GitHub's Markdown under a heading."""
        rule = ["---", *("---:" for _ in self.headings[1:])]
        lines = [" | ".join(cells) for cells in (self.headings, rule, *self.rows)]
        return "\n".join((f"### {self.title}\n", *(f"| {line} |" for line in lines), ""))


def print_report(results: Results, console: Console) -> None:
    """Print everything; what a person looks for first comes last, where the screen ends."""
    for grid in details(results):
        console.print(grid.as_table())
    console.print(summary(results).as_table())
    console.print(*map(escape, (*shortfalls(results), *conditions(results))), sep="\n")


def as_markdown(results: Results) -> str:
    """Return everything as one Markdown document."""
    notes = "\n".join(f"- {line}" for line in (*shortfalls(results), *conditions(results)))
    tables = [summary(results), *details(results)]
    title = f"# Tunnels beside each other, {results.date}\n"
    return "\n".join((title, notes, "", *(grid.as_markdown() for grid in tables)))


def summary(results: Results) -> Grid:
    """Return the medians of the main figures, a line a case, in 80 columns."""
    figures = [figure for figure in measured(results) if figure.heading]
    grid = Grid("Medians", ["", *(figure.heading for figure in figures)])
    columns = [
        {one.case.name: number(one.median) for one in compare(figure, results.cases)}
        for figure in figures
    ]
    for case in results.cases:
        cells = [column.get(case.name, "") for column in columns]
        if case.status != OK and not any(cells):
            cells[:1] = [case.status]
        grid.rows.append([case.title, *cells])
    return grid


def details(results: Results) -> list[Grid]:
    """Return a table for each figure: median, spread, and the ratios."""
    return [_detail(figure, results) for figure in measured(results)]


def measured(results: Results) -> list[Figure]:
    """Return the figures that at least one case has."""
    return [
        figure
        for figure in results.figures
        if any(case.values.get(figure.name) for case in results.cases)
    ]


def _detail(figure: Figure, results: Results) -> Grid:
    title = f"{figure.title}, {figure.unit} ({figure.better} is better)"
    grid = Grid(
        title[0].upper() + title[1:], ["", "median", "least", "most", "to veth", "to best peer"]
    )
    for one in compare(figure, results.cases):
        values = [number(value) for value in (one.median, one.least, one.most)]
        ratios = [
            "" if ratio is None else f"x {number(ratio)}"
            for ratio in (one.to_baseline, one.to_best_peer)
        ]
        grid.rows.append([one.case.title, *values, *ratios])
    return grid


def number(value: float) -> str:
    """Return three significant digits, without an exponent."""
    size = abs(value)
    decimals = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:,.{decimals}f}"


def shortfalls(results: Results) -> list[str]:
    """Return a line for each case that is not there or did not work, with the reasons."""
    return [
        f"{case.title}: {case.status}: {'; '.join(case.reasons)}"
        for case in results.cases
        if case.status != OK
    ]


def conditions(results: Results) -> list[str]:
    """Return what the figures were taken with, a line each."""
    machine, settings = results.machine, results.settings
    where = (
        f"{machine.n_cpus} CPUs ({machine.cpu}), {machine.memory_mib / 1024:.0f} GiB, "
        f"{machine.system}, Linux {machine.kernel}, Python {machine.python}"
    )
    idle_share = max(results.idle_shares, default=0.0)
    quiet = (
        f"load average at the beginning {machine.load_average:g}; busy while nothing was measured: "
        f"{idle_share:.2f} CPUs"
        + (": this machine was not quiet" if idle_share > IDLE_SHARE_MAX else "")
    )
    how = (
        f"{results.date}, {results.duration_s / _MINUTE_S:.1f} minutes, "
        f"commit {machine.commit or 'unknown'}: "
        f"{settings.n_rounds} rounds, transfers of {settings.seconds} s"
        + (", quick" if settings.is_quick else "")
    )
    programs = "; ".join(f"{name}: {text}" for name, text in machine.versions.items())
    return [where, f"TCP congestion control {machine.congestion_control}; {quiet}", how, programs]
