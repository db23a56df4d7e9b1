"""A real Prometheus in the laboratory, which scrapes the gateway of the host that it runs on."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastun.lab.host import Host, LabError, wait_until
from fastun.lab.tunnel import METRICS_PORT

API_PORT = 9090


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: its labels, and its values by Unix time."""

    labels: dict[str, str]
    points: list[tuple[float, float]]

    @property
    def value(self) -> float:
        """The last value."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Its HTTP API, https://prometheus.io/docs/prometheus/latest/querying/api/."""

    host: Host

    def query(self, expression: str, *, time_s: float | None = None) -> list[Series]:
        """Evaluate at a Unix time, or now. Raises LabError with what Prometheus says."""
        at = {} if time_s is None else {"time": f"{time_s:.3f}"}
        result = self._get("query", query=expression, **at)["result"]
        return [_series(found["metric"], [found["value"]]) for found in result]

    def query_range(
        self, expression: str, begin_s: float, end_s: float, step_s: float
    ) -> list[Series]:
        """Evaluate from one Unix time to another."""
        result = self._get(
            "query_range", query=expression, start=str(begin_s), end=str(end_s), step=str(step_s)
        )["result"]
        return [_series(found["metric"], found["values"]) for found in result]

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules, as the API describes them; an alerting rule with its alerts."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **parameters: str) -> Any:
        with self.host.socket() as connection:
            connection.settimeout(10)
            connection.connect(("127.0.0.1", API_PORT))
            client = http.client.HTTPConnection("127.0.0.1", API_PORT)
            client.sock = connection
            client.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
            response = client.getresponse()
            if response.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
                raise LabError("Prometheus is not ready")
            answer = json.load(response)
        if answer["status"] != "success":
            raise LabError(f"Prometheus: {answer['error']}: {parameters}")
        return answer["data"]


def _series(labels: dict[str, str], values: Sequence[tuple[float, str]]) -> Series:
    return Series(labels, [(time_s, float(value)) for time_s, value in values])


def start_prometheus(
    host: Host, directory: Path, *, rule_files: Sequence[Path] = (), interval: str = "1s"
) -> Prometheus:
    """Scrape the gateway of `host` as job "fastun" every `interval`, until the laboratory ends.

    Returns after the first scrape.
    """
    directory.mkdir()
    config = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(path) for path in rule_files],
        "scrape_configs": [
            {
                "job_name": "fastun",
                "static_configs": [{"targets": [f"127.0.0.1:{METRICS_PORT}"]}],
            }
        ],
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with (directory / "log").open("wb") as log:
        host.spawn(
            "prometheus",
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{API_PORT}",
            stdout=log,
            stderr=log,
        )
    prometheus = Prometheus(host)
    wait_until(lambda: _has_scraped(prometheus), "Prometheus scrapes", timeout_s=20)
    return prometheus


def _has_scraped(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.query("up"))
    except (OSError, LabError):  # it does not listen yet, or is not ready
        return False
