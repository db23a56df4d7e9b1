"""Makes what is made of grafana/panels.py: the dashboard's JSON and the table in README.md.

    python -m grafana.dashboard

Grafana's classic JSON (schema 39, Grafana 10 and later). Both files are committed, and a test fails
where they differ from this.
"""

from __future__ import annotations

import itertools
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana.panel import Panel, Row
from grafana.panels import ROWS

HERE = Path(__file__).parent
DASHBOARD = HERE / "dashboards" / "fastun.json"
README = HERE / "README.md"

AT = 'job="$job",instance="$instance"'
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


def text() -> str:
    """Return the dashboard."""
    return json.dumps(_dashboard(), indent=2) + "\n"


def table() -> str:
    """Return the panels as README.md has them."""
    lines = ["| panel | metrics | what to do |", "| --- | --- | --- |"]
    for row in ROWS:
        lines.append(f"| **{row.title}** | | |")
        lines += [
            f"| {panel.title} | {', '.join(f'`{name}`' for name in metrics_of(panel))} "
            f"| {panel.what_to_do} |"
            for panel in row.panels
        ]
    return "\n".join(lines)


def metrics_of(panel: Panel) -> list[str]:
    """Return the metrics that a panel reads, in the order in which they appear."""
    found = re.findall(r"\b(\w+)(?=\{\$at)", " ".join(expr for expr, _ in panel.queries))
    return list(dict.fromkeys(found))


def readme(before: str) -> str:
    """Return README.md with the table of now."""
    head, _, rest = before.partition("| panel |")
    return head + table() + "\n\n" + rest.partition("\n\n")[2]


# -- the JSON ---------------------------------------------------------------------------------


def _dashboard() -> Json:
    return {
        "uid": "fastun",
        "title": "fastun",
        "description": "One fastun gateway: where its packets are, and what they wait for.",
        "tags": ["fastun", "network"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all panels
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": list(_panels()),
    }


def _variables() -> list[Json]:
    job = _variable("job", "Job", "label_values(fastun_info, job)")
    instance = _variable("instance", "Instance", 'label_values(fastun_info{job="$job"}, instance)')
    datasource = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
    }
    return [datasource, job, instance]


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"{name}-variable"},
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": False,
        "includeAll": False,
    }


def _panels() -> Iterator[Json]:
    ids = itertools.count(1)
    y = 0
    for row in ROWS:
        yield {
            "id": next(ids),
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        }
        y += 1
        for panel, x, line in _placed(row):
            place = {"x": x, "y": y + line * row.height, "w": panel.width, "h": row.height}
            yield {"id": next(ids), "gridPos": place, **_panel(panel)}
        y += (line + 1) * row.height


def _placed(row: Row) -> Iterator[tuple[Panel, int, int]]:
    """Yield each panel with its column and its line within the row."""
    x, line = 0, 0
    for panel in row.panels:
        if x + panel.width > COLUMNS:
            x, line = 0, line + 1
        yield panel, x, line
        x += panel.width


def _panel(panel: Panel) -> Json:
    defaults: Json = {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": _steps(panel)},
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.none:
        defaults["noValue"] = panel.none
    if panel.kind == "timeseries":
        defaults["custom"] = _curves(panel)
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": f"{panel.description} {panel.what_to_do}",
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [
            _target(panel, ref_id, expr, legend)
            for ref_id, (expr, legend) in zip(string.ascii_uppercase, panel.queries, strict=False)
        ],
    }


def _target(panel: Panel, ref_id: str, expr: str, legend: str) -> Json:
    is_curve = panel.kind == "timeseries"
    return {
        "refId": ref_id,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expr.replace("$at", AT),
        "legendFormat": legend,
        "range": is_curve,
        "instant": not is_curve,
    }


def _steps(panel: Panel) -> list[Json]:
    steps: list[Json] = [{"color": "green", "value": None}]
    for color, value in (("yellow", panel.warn), ("red", panel.alarm)):
        if value is not None:
            steps.append({"color": color, "value": value})
    return steps


def _curves(panel: Panel) -> Json:
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 10,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if panel.alarm is None else "dashed"},
    }


def _options(panel: Panel) -> Json:
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    options: Json = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    if panel.kind == "bargauge":
        return options | {"displayMode": "gradient", "orientation": "horizontal"}
    return options | {
        "colorMode": "background",
        "graphMode": "none",
        "textMode": "value_and_name" if panel.names else "value",
    }


if __name__ == "__main__":
    DASHBOARD.write_text(text(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
