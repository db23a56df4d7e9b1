"""The gateway's health and readiness, and the end of one that is being scraped."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from fastun.lab.host import LabError, wait_until
from fastun.lab.tunnel import METRICS_PORT, start_gateway
from tests.support.processes import worker_pid
from tests.support.scrapes import responds, status_of

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from tests.conftest import StartTunnel


def test_health_follows_the_workers_and_readiness_the_link_too(tunnel: StartTunnel) -> None:
    pair = tunnel()
    for gateway in (pair.client, pair.server):
        assert gateway.get("/healthz") == (200, "all workers run\n")
        assert gateway.get("/readyz") == (200, "ready\n")
    assert pair.server.stop() == 0
    wait_until(lambda: status_of(pair.client, "/readyz") == 503, "the client is not ready")
    assert pair.client.get("/readyz") == (503, "no link\n")
    assert pair.client.get("/healthz")[0] == 200
    assert pair.client.scrape().total("fastun_peer_up") == 0

    # Without the template a worker is not back within milliseconds; this one is replaced after 2 s.
    os.kill(worker_pid(pair.client, "template"), signal.SIGSTOP)
    os.kill(worker_pid(pair.client, "tun-writer"), signal.SIGKILL)
    wait_until(
        lambda: pair.client.get("/healthz") == (503, "not at work: tun-writer/0\n"),
        "the client is not healthy",
        interval_s=0,
    )
    wait_until(lambda: status_of(pair.client, "/healthz") == 200, "the client is healthy again")


def test_a_server_is_ready_without_a_link(lab: Lab, tmp_path: Path) -> None:
    gateway = start_gateway(lab.host("server"), tmp_path, "serve")
    wait_until(lambda: responds(gateway), "fastun answers", timeout_s=15)
    assert status_of(gateway, "/readyz") == 200
    assert gateway.scrape().total("fastun_peer_up") == 0
    assert gateway.stop() == 0


def test_scrapes_do_not_disturb_the_end(tunnel: StartTunnel) -> None:
    gateway = tunnel().server
    statuses: list[int] = []

    def scrape_on() -> None:
        while gateway.process.poll() is None:
            try:
                statuses.append(status_of(gateway, "/metrics"))
            except LabError:  # it has ended
                continue

    scrapers = [threading.Thread(target=scrape_on) for _ in range(3)]
    for scraper in scrapers:
        scraper.start()
    wait_until(lambda: len(statuses) > 20, "scrapes")
    code = gateway.stop()
    for scraper in scrapers:
        scraper.join()
    assert code == 0
    assert set(statuses) == {200}


def test_a_metrics_port_in_use_is_one_line_and_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    host = lab.host("server")
    with host.socket() as other:
        other.bind(("127.0.0.1", METRICS_PORT))
        other.listen()
        gateway = start_gateway(host, tmp_path, "serve")
        assert gateway.process.wait(15) == 1
    (line,) = gateway.log_tail()
    assert f"--metrics 127.0.0.1:{METRICS_PORT}: the port is in use" in line
    assert host.devices() == ["lo"]
