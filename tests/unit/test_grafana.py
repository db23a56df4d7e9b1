"""The dashboard, the rules and their README agree with each other and with the metrics.

tests/netns/test_grafana.py runs every expression on the data of a loaded tunnel.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fastun.metrics.families import FAMILIES
from grafana import dashboard

GRAFANA = Path(__file__).resolve().parents[2] / "grafana"
PROMETHEUS = GRAFANA / "prometheus"
ALERTS = (PROMETHEUS / "fastun.alerts.yaml").read_text(encoding="utf-8")
RULES = (PROMETHEUS / "fastun.rules.yaml").read_text(encoding="utf-8")

SERIES = {
    family.name + suffix
    for family in FAMILIES
    for suffix in (("_bucket", "_sum", "_count") if family.type == "histogram" else ("",))
}

Json = dict[str, Any]


def panels() -> list[Json]:
    """All panels but the rows' headings."""
    everything = json.loads(dashboard.DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in everything if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def alerts() -> dict[str, str]:
    """Each alert's lines by its name."""
    parts = re.split(r"^      - alert: (\w+)\n", ALERTS, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def metrics_in(text: str) -> set[str]:
    """The metrics that are read, without the names of what is recorded."""
    return set(re.findall(r"(?<![\w:])fastun_\w+(?![\w:])", text))


def promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (Debian package prometheus)")
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, check=False, cwd=PROMETHEUS
    )
    assert done.returncode == 0, done.stdout + done.stderr


# -- the dashboard ----------------------------------------------------------------------------


def test_the_committed_dashboard_and_its_table_are_what_the_panels_make() -> None:
    fix = "run: python -m grafana.dashboard"
    assert dashboard.DASHBOARD.read_text(encoding="utf-8") == dashboard.text(), fix
    readme = dashboard.README.read_text(encoding="utf-8")
    assert readme == dashboard.readme(readme), fix
    assert readme.count("\n| panel |") == 1


def test_everything_that_is_read_is_a_metric_and_every_metric_is_read() -> None:
    read = metrics_in("\n".join([*expressions(), RULES, ALERTS]))
    assert read <= SERIES
    unread = {
        family.name for family in FAMILIES if not any(name.startswith(family.name) for name in read)
    }
    assert unread == set()


def test_what_the_alerts_read_of_the_recording_rules_is_recorded() -> None:
    recorded = set(re.findall(r"- record: (\S+)", RULES))
    assert set(re.findall(r"\w+:fastun_\w+:\w+", ALERTS)) <= recorded


def test_panels_have_what_grafana_needs_and_readers_want() -> None:
    everything = json.loads(dashboard.DASHBOARD.read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in everything["panels"]]
    assert len(set(ids)) == len(ids)
    assert [v["name"] for v in everything["templating"]["list"]] == [
        "datasource",
        "job",
        "instance",
    ]
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    for panel in panels():
        assert panel["description"].endswith((".", "?"))
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        ref_ids = [target["refId"] for target in panel["targets"]]
        assert len(set(ref_ids)) == len(ref_ids) > 0
        assert all(target["legendFormat"] for target in panel["targets"])
        values = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert values[0] is None
        assert values[1:] == sorted(values[1:])


def test_expressions_are_of_the_chosen_gateway_and_of_grafanas_window() -> None:
    for expression in expressions():
        selectors = re.findall(r"\{(.*?)\}", expression)
        assert selectors
        assert all(s.startswith('job="$job",instance="$instance"') for s in selectors)
        window = "5m" if "network" in expression else "$__rate_interval"
        assert set(re.findall(r"\[(.*?)\]", expression)) <= {window}


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    everything = json.loads(dashboard.DASHBOARD.read_text(encoding="utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in everything):
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert not cells & taken
        taken |= cells
    assert len(taken) == 24 * (max(y for _, y in taken) + 1), "a hole"


def test_a_directions_panels_are_in_the_order_of_its_stages() -> None:
    titles = [panel["title"] for panel in panels()]
    for stages in (
        ["device, to fastun", "tun-reader", "outbound ring", "link-writer", "sockets, to peers"],
        ["sockets, from peers", "link-reader", "inbound ring", "tun-writer", "device, from fastun"],
    ):
        first = titles.index(stages[0])
        assert titles[first : first + len(stages)] == stages


# -- rules and alerts -------------------------------------------------------------------------


def test_promtool_accepts_the_example_configuration_with_the_rules() -> None:
    promtool("check", "config", "prometheus.yaml")


@pytest.mark.parametrize("name", ["recordings_test.yaml", "alerts_test.yaml"])
def test_rules_do_what_their_promtool_tests_say(name: str) -> None:
    promtool("test", "rules", f"tests/{name}")


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    readme = (GRAFANA / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (\w+)", readme, flags=re.MULTILINE) == list(alerts())
    for name, text in alerts().items():
        assert re.search(r"^        for: \d+m$", text, flags=re.MULTILINE)
        assert re.search(r"labels: \{severity: (critical|warning|info)\}", text)
        assert "          summary: " in text
        assert "          description: " in text
        assert f"          runbook: grafana/README.md#{name.lower()}\n" in text


def test_every_alert_is_shown_to_fire_and_not_to_fire() -> None:
    text = (PROMETHEUS / "tests" / "alerts_test.yaml").read_text(encoding="utf-8")
    tests = dict(re.findall(r'^  - name: "(\w+): .*"\n((?:    .*\n)+)', text, flags=re.MULTILINE))
    assert list(tests) == list(alerts())
    for name, lines in tests.items():
        assert re.search(rf"alertname: {name}, .*exp_alerts: \[\]", lines)
        assert f"      - alertname: {name}\n" in lines
        assert "          - exp_labels: {" in lines
        assert 'instance="good"' in lines
