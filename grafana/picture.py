"""Renders dashboard.png: the dashboard's first rows with matplotlib, from the data of a real run.

    python -m grafana.picture     (as root; needs prometheus and, from pip, matplotlib)

The run is a tunnel between two network namespaces with TCP in both directions, in three parts:
nothing is slowed; then the server's link-writer is; then its tun-writer is. A real Prometheus
scrapes the server twice a second, and the panels' own expressions are evaluated over its data.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, Formatter, FuncFormatter

from fastun.lab.host import wait_until
from fastun.lab.network import Lab
from fastun.lab.tunnel import Tunnel, start_tunnel
from grafana.dashboard import COLUMNS, DASHBOARD, HERE
from tests.support.prometheus import Prometheus, start_prometheus
from tests.support.stall import slowed, worker_pid

PICTURE = HERE / "dashboard.png"
PART_S = 20.0
STEP_S = 0.5
WARM_UP_S = 4.0  # the first part's curves begin with scrapes from before it
ROWS_SHOWN = 3  # Overview, Outbound, Inbound
VARIABLES = {
    "$job": "fastun",
    "$instance": "127.0.0.1:10055",
    "$__rate_interval": "3s",
    "[5m]": "[10s]",
}

# Of the figure, in inches a cell of Grafana's grid.
CELL_WIDTH, CELL_HEIGHT, HEAD = 0.72, 0.34, 1.1
COLORS = {"green": "tab:green", "yellow": "goldenrod", "red": "tab:red"}

HEADING = (
    "Rendered by matplotlib from the dashboard's own queries over a real run; "
    "not a Grafana screenshot"
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended, and where its data is: each part's beginning, and what was slowed."""

    prometheus: Prometheus
    parts: list[tuple[float, str]]
    end_s: float

    @property
    def begin_s(self) -> float:
        """When it began, as Unix time like all others."""
        return self.parts[0][0]


# -- the run ----------------------------------------------------------------------------------


def load_in_parts(tunnel: Tunnel, prometheus: Prometheus) -> Run:
    """Send both ways all the time, with other workers slowed in each part."""
    server, client = tunnel.server, tunnel.client
    server.host.spawn("iperf3", "-s", "-1")
    wait_until(lambda: server.host.listens(5201), "iperf3 listens")
    duration_s = str(math.ceil(3 * PART_S + 5))
    client.host.spawn("iperf3", "-c", server.inner_address, "--bidir", "-t", duration_s)
    parts = [(time.time(), "nothing slowed")]
    time.sleep(PART_S)
    for role in ("link-writer", "tun-writer"):
        parts.append((time.time(), f"{role} slowed"))
        with slowed(worker_pid(server, role)):
            time.sleep(PART_S)
    return Run(prometheus, parts, time.time())


# -- what Grafana would do --------------------------------------------------------------------


def panels() -> Iterator[Json]:
    """Yield the panels and headings of the rows shown."""
    everything = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    n_rows = itertools.accumulate(panel["type"] == "row" for panel in everything)
    for panel, row in zip(everything, n_rows, strict=True):
        if row <= ROWS_SHOWN:
            yield panel


def expression(target: Json) -> str:
    """Return a query with its variables filled in."""
    text: str = target["expr"]
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text


def legend(target: Json, labels: dict[str, str]) -> str:
    """Return what a series is called."""
    text: str = target["legendFormat"]
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def in_unit(unit: str) -> Formatter:
    """Return what writes numbers of a unit."""
    if unit == "percentunit":
        return FuncFormatter(lambda value, _: f"{100 * value:.3g} %")
    suffix = {"bps": "b/s", "bytes": "B", "pps": "p/s", "ops": "/s", "s": "s"}.get(unit, "")
    return EngFormatter(unit=suffix)


# -- drawing ----------------------------------------------------------------------------------


def draw_curves(axes: Axes, panel: Json, run: Run) -> None:
    """Draw a panel's series; those that stay at 0 would only fill the legend."""
    defaults = panel["fieldConfig"]["defaults"]
    for target in panel["targets"]:
        found = run.prometheus.query_range(expression(target), run.begin_s, run.end_s, STEP_S)
        for series in found:
            times, values = zip(*series.points, strict=True)
            if any(values):
                label = legend(target, series.labels)
                axes.plot([t - run.begin_s for t in times], values, linewidth=1, label=label)
    has_curves = bool(axes.lines)
    for began_s, _ in run.parts[1:]:
        axes.axvline(began_s - run.begin_s, color="black", linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 1.05 * defaults["max"] if "max" in defaults else None)
    axes.set_xlim(0, run.end_s - run.begin_s)
    axes.yaxis.set_major_formatter(in_unit(defaults["unit"]))
    axes.grid(alpha=0.3)
    if has_curves:
        axes.legend(
            fontsize=5.5, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, frameon=False
        )
    else:
        axes.text(0.5, 0.5, "0 all the time", ha="center", transform=axes.transAxes, color="grey")


def draw_values(axes: Axes, panel: Json, run: Run) -> None:
    """Write a panel's values; of the bottleneck those at the end of each part."""
    defaults = panel["fieldConfig"]["defaults"]
    ends = [*(began_s for began_s, _ in run.parts[1:]), run.end_s]
    shown = []
    for (_, part), end_s in zip(run.parts, ends, strict=True):
        values = [
            f"{legend(target, series.labels)}  {in_unit(defaults['unit'])(series.value)}"
            for target in panel["targets"]
            for series in run.prometheus.query(expression(target), time_s=end_s - STEP_S)
        ]
        shown.append(f"{part}:\n" + ("\n".join(values) or defaults.get("noValue", "no data")))
    is_bottleneck = panel["title"] == "Bottleneck"
    text = "\n\n".join(shown) if is_bottleneck else shown[-1].partition("\n")[2]
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_bars(axes: Axes, panel: Json, run: Run) -> None:
    """Draw a panel's values at the end of the run."""
    (target,) = panel["targets"]
    found = run.prometheus.query(expression(target), time_s=run.end_s - STEP_S)
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    for series in found:
        color = [s["color"] for s in steps if s["value"] is None or series.value >= s["value"]][-1]
        axes.barh(legend(target, series.labels), series.value, color=COLORS[color])
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(in_unit("percentunit"))


DRAW = {"timeseries": draw_curves, "stat": draw_values, "bargauge": draw_bars}


def draw(run: Run) -> None:
    """Draw all panels where the dashboard has them."""
    plt.rcParams.update({"font.size": 7, "axes.titlesize": 8, "axes.titleweight": "bold"})
    shown = list(panels())
    n_lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown)
    width, height = COLUMNS * CELL_WIDTH, n_lines * CELL_HEIGHT + HEAD
    figure = plt.figure(figsize=(width, height))
    for panel in shown:
        place = panel["gridPos"]
        bottom = height - HEAD - (place["y"] + place["h"]) * CELL_HEIGHT
        left = place["x"] * CELL_WIDTH
        if panel["type"] == "row":
            figure.text(0.01, (bottom + 0.1) / height, panel["title"], fontsize=11, weight="bold")
            continue
        margin_left = 0.9 if panel["type"] == "bargauge" else 0.6
        box = (
            (left + margin_left) / width,
            (bottom + 0.55) / height,
            (place["w"] * CELL_WIDTH - margin_left - 0.12) / width,
            (place["h"] * CELL_HEIGHT - 0.85) / height,
        )
        axes = figure.add_axes(box)
        axes.set_title(panel["title"])
        DRAW[panel["type"]](axes, panel, run)
    figure.text(0.01, 1 - 0.45 / height, HEADING, fontsize=13, weight="bold")
    figure.text(0.01, 1 - 0.65 / height, caption(run), fontsize=9, va="top")
    figure.savefig(PICTURE, dpi=80)


def caption(run: Run) -> str:
    """Return where the data comes from."""
    parts = ", ".join(f"from {began_s - run.begin_s:.0f} s {what}" for began_s, what in run.parts)
    return (
        f"The server of a tunnel between two namespaces; TCP both ways, wireguard wire; {parts}.\n"
        f"One machine ({os.cpu_count()} cores of an {processor()}, Linux "
        f"{platform.release().partition('-')[0]}, {time.strftime('%Y-%m-%d')}), not idle otherwise."
        " Windows of 3 s; of Bottleneck and Utilisation 10 s."
    )


def processor() -> str:
    """Return the processor's name as Linux has it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


def main() -> None:
    """Run and draw."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="fastun-picture-") as name:
        directory = Path(name)
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        tunnel = start_tunnel(server, client, "10.0.0.1", directory)
        tunnel.wait_up()
        prometheus = start_prometheus(server, directory / "prometheus", interval="500ms")
        time.sleep(WARM_UP_S)
        draw(load_in_parts(tunnel, prometheus))


if __name__ == "__main__":
    main()
