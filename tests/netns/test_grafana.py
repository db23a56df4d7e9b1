"""The dashboard and the rules on a real Prometheus that scrapes the server of a loaded tunnel.

server: fastun serve, Prometheus        client: fastun connect
to-client 10.0.0.1  ======veth======    to-server 10.0.0.2
ft0       10.99.0.1 .....tunnel.....    ft0       10.99.0.2

Prometheus scrapes four times a second, and all windows of the dashboard and the rules and what
alerts wait for are shortened: the expressions are else as committed.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.tunnel import UDP_PORT, Tunnel, start_tunnel
from fastun.native import ROLES
from tests.support.hijacked import held
from tests.support.processes import worker_pid
from tests.support.prometheus import Prometheus, start_prometheus
from tests.support.stall import slowed

if TYPE_CHECKING:
    from collections.abc import Iterator

# Which stage is slow is measured.
pytestmark = pytest.mark.alone

GRAFANA = Path(__file__).resolve().parents[2] / "grafana"
RULE_FILES = ("fastun.rules.yaml", "fastun.alerts.yaml")

INTERVAL = "250ms"
WINDOW_S = 2  # of the dashboard's expressions: eight scrapes
SETTLE_S = 2  # until the queues have filled, and the last of the window's scrapes is in


@dataclass(frozen=True)
class Watched:
    """A tunnel, and the Prometheus that watches its server."""

    tunnel: Tunnel
    prometheus: Prometheus

    @contextlib.contextmanager
    def load(self, *options: str) -> Iterator[None]:
        """Send as fast as TCP can from the client to the server, or as iperf3's options say."""
        server, client = self.tunnel.server, self.tunnel.client
        listener = server.host.spawn("iperf3", "-s", "-1")
        wait_until(lambda: server.host.listens(5201), "iperf3 listens")
        sender = client.host.spawn("iperf3", "-c", server.inner_address, "-t", "60", *options)
        try:
            yield
            assert sender.poll() is None, "the load has ended"
        finally:
            for process in (sender, listener):
                process.kill()
                process.wait()

    def settled(self, bottleneck: str, role: str) -> list[dict[str, str]]:
        """Return what the query names once it has named ``role`` for a second, or at last."""
        n_in_a_row, deadline = 0, time.monotonic() + 6 * WINDOW_S
        while True:
            time.sleep(0.25)
            named = [series.labels for series in self.prometheus.query(bottleneck)]
            n_in_a_row = n_in_a_row + 1 if named == [{"role": role}] else 0
            if n_in_a_row == 5 or time.monotonic() > deadline:
                return named


def shortened(name: str, directory: Path) -> Path:
    """Copy a rule file with windows of two seconds and alerts that wait for one."""
    text = (GRAFANA / "prometheus" / name).read_text(encoding="utf-8")
    text = re.sub(r"\[\d+[mh]\]", f"[{WINDOW_S}s]", text)
    text = re.sub(r"for: \d+m", "for: 1s", text)
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    missing = missing_capability()
    if missing:
        pytest.skip(f"network namespaces and tunnels need {missing}")
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus (Debian package prometheus)")
    directory = tmp_path_factory.mktemp("grafana")
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        # On UDP as well, where no peer comes: it has figures of its own.
        listen = ("--listen", f"udp://10.0.0.1:{UDP_PORT}")
        tunnel = start_tunnel(server, client, "10.0.0.1", directory, server_arguments=listen)
        rule_files = [shortened(name, directory) for name in RULE_FILES]
        prometheus = start_prometheus(
            server, directory / "prometheus", rule_files=rule_files, interval=INTERVAL
        )
        tunnel.wait_up()
        yield Watched(tunnel, prometheus)
        assert tunnel.client.stop() == 0
        assert tunnel.server.stop() == 0


# A TAP server has the first, a client with DNS servers the next, an attacked worker, and a fleet.
OF_OTHERS = (
    "fastun_peer_mac_addresses",
    "fastun_dns_up",
    "fastun_worker_forbidden_calls_total",
    "fastun_fleet_",
)


def expressions_of(title: str | None = None) -> list[str]:
    """The dashboard's expressions as Grafana would send them, of one panel or all."""
    dashboard = json.loads((GRAFANA / "dashboards" / "fastun.json").read_text(encoding="utf-8"))
    values = {
        "$job": "fastun",
        "$instance": "127.0.0.1:10055",
        "$__rate_interval": f"{WINDOW_S}s",
        "[5m]": f"[{WINDOW_S}s]",
    }
    found = []
    for panel in dashboard["panels"]:
        if title in (None, panel["title"]):
            for target in panel.get("targets", []):
                expression = target["expr"]
                for name, value in values.items():
                    expression = expression.replace(name, value)
                found.append(expression)
    return found


def without_filters(expression: str) -> str:
    """Have comparisons say 0 or 1: a healthy tunnel is above none of the limits."""
    return re.sub(r"(==|>|<)(?=\s+[\d.]+)", r"\1 bool", expression)


# -- a loaded tunnel --------------------------------------------------------------------------


def test_every_expression_returns_data_of_a_loaded_tunnel(watched: Watched) -> None:
    with watched.load("--bidir"):
        time.sleep(WINDOW_S + SETTLE_S)
        loaded_s = time.time()
    rules = [rule["query"] for rule in watched.prometheus.rules()]
    assert len(rules) == 6 + 16
    without_data = [
        expression
        for expression in (*expressions_of(), *rules)
        if not any(name in expression for name in OF_OTHERS)
        and not any(
            math.isfinite(series.value)
            for series in watched.prometheus.query(without_filters(expression), time_s=loaded_s)
        )
    ]
    assert without_data == []


# -- a slowed stage ---------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_the_bottleneck_query_names_the_slowed_stage(watched: Watched, role: str) -> None:
    (bottleneck,) = expressions_of("Bottleneck")
    (utilisation,) = expressions_of("Utilisation of the stages")
    direction = ["--reverse"] if role in ("tun-reader", "link-writer") else []
    with watched.load(*direction), slowed(worker_pid(watched.tunnel.server, role)):
        named = watched.settled(bottleneck, role)
        shares = {s.labels["role"]: s.value for s in watched.prometheus.query(utilisation)}
    print(shares)  # noqa: T201 (pytest shows it on failure)
    assert named == [{"role": role}]


def test_a_slow_network_is_named_and_not_the_worker_that_waits_for_it(watched: Watched) -> None:
    (bottleneck,) = expressions_of("Bottleneck")
    host, device = watched.tunnel.server.host, "to-client"
    # fmt: off
    host.run("tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", "100mbit",
             "burst", "128kb", "limit", "256kb")
    # fmt: on
    try:
        with watched.load("--reverse"):
            named = watched.settled(bottleneck, "network")
    finally:
        host.run("tc", "qdisc", "delete", "dev", device, "root")
    assert named == [{"role": "network"}]


# -- an alert ---------------------------------------------------------------------------------


def firing(prometheus: Prometheus, name: str) -> list[str]:
    """The roles for which an alert fires."""
    (rule,) = [rule for rule in prometheus.rules() if rule["name"] == name]
    return [alert["labels"]["role"] for alert in rule["alerts"] if alert["state"] == "firing"]


def test_a_stalled_link_writer_raises_its_alert_until_it_goes_on(watched: Watched) -> None:
    name, writer = "FastunStageStalled", worker_pid(watched.tunnel.server, "link-writer")
    with watched.load("--reverse"):
        time.sleep(SETTLE_S)
        assert firing(watched.prometheus, name) == []
        with held(writer):
            wait_until(lambda: bool(firing(watched.prometheus, name)), "an alert", timeout_s=15)
            assert firing(watched.prometheus, name) == ["link-writer"]
        wait_until(lambda: not firing(watched.prometheus, name), "the alert ends", timeout_s=15)
