"""`fastun status` of a running tunnel; the topology stands in tests/conftest.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from fastun.lab import wait_until
from fastun.lab_transfer import start_transfer
from fastun.lab_tunnel import INTERFACE, start_gateway

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab import Lab
    from fastun.lab_tunnel import GatewayProcess, Scrape
    from tests.conftest import StartTunnel

MEGABYTE = 10**6
COLUMNS = 80


def run_dir(gateway: GatewayProcess) -> Path:
    return gateway.log_file.parent


def status(gateway: GatewayProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastun", "status", "--run-dir", run_dir(gateway), *arguments],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
        env={**os.environ, "COLUMNS": str(COLUMNS)},
    )


def status_json(gateway: GatewayProcess) -> Any:
    done = status(gateway, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def line(text: str, start: str) -> str:
    (found,) = (line for line in text.splitlines() if line.split()[:1] == [start])
    return found


def assert_between(before: Scrape, value: float, after: Scrape, name: str, role: str) -> None:
    """Hosts send some packets unasked, so two looks need not be the same."""
    assert 0 < before.total(name, role=role) <= value <= after.total(name, role=role)


def test_status_says_in_80_columns_what_the_metrics_say(tunnel: StartTunnel) -> None:
    pair = tunnel()
    start_transfer(
        pair.client.host, pair.server.host, pair.server.inner_address, n_bytes=10 * MEGABYTE
    ).result(timeout=30)
    before, done, after = pair.client.scrape(), status(pair.client), pair.client.scrape()
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert max(map(len, text.splitlines())) <= COLUMNS
    assert text.isascii()
    assert "\x1b" not in text  # not a terminal
    assert text.startswith(f"{INTERFACE}      connect, tun, plain wire, MTU 1500, up ")
    assert line(text, "address").split()[1:] == list(pair.client.addresses)
    assert "peer at tcp://10.0.0.1:55555, fastun " in line(text, "link")
    for role in ("tun-reader", "link-writer", "link-reader", "tun-writer"):
        packets = int(line(text, role).split()[1].replace(",", ""))
        assert_between(before, packets, after, "fastun_packets_total", role)
    roles = [text.index(f"  {role} ") for role in ("tun-reader", "ring", "link-writer")]
    assert roles == sorted(roles)
    assert "outbound, 0 dropped" in text


def test_the_json_agrees_with_the_metrics(tunnel: StartTunnel) -> None:
    pair = tunnel()
    before, report, after = pair.server.scrape(), status_json(pair.server), pair.server.scrape()
    assert report["pid"] == pair.server.process.pid
    assert (report["role"], report["interface"]) == ("serve", INTERFACE)
    assert report["listen"] == ["tcp://10.0.0.1:55555"]
    assert report["link"]["software"].startswith("fastun ")
    assert report["link"]["since_unix_seconds"] > report["started_unix_seconds"]
    assert 0 < report["link"]["tcp"]["rtt_seconds"] < 1
    (lane,) = report["lanes"]
    for direction in (lane["outbound"], lane["inbound"]):
        assert direction["ring_capacity_bytes"] == 2 * 2**20
        for stage in (direction["reader"], direction["writer"]):
            for counter in ("packets", "frames", "bytes"):
                name = f"fastun_{counter}_total"
                assert_between(before, stage[counter], after, name, stage["role"])
            assert stage["up"] is True
            assert psutil.Process(stage["pid"]).ppid() == pair.server.process.pid


def test_drops_and_restarts_show(tunnel: StartTunnel) -> None:
    pair = tunnel()
    assert pair.server.stop() == 0
    # fmt: off
    pair.client.host.run("ping", "-n", "-q", "-c", "30", "-i", "0.01", "-W", "1",
                         pair.server.inner_address, check=False)
    # fmt: on

    def stage(direction: str, part: str) -> Any:
        return status_json(pair.client)["lanes"][0][direction][part]

    wait_until(lambda: stage("outbound", "writer")["drops"]["no_link"] >= 30, "drops")
    os.kill(stage("inbound", "writer")["pid"], signal.SIGKILL)
    wait_until(lambda: stage("inbound", "writer")["restarts"] == 1, "a restart")
    wait_until(lambda: stage("inbound", "writer")["up"], "the successor works")
    text = status(pair.client).stdout
    assert "dialling tcp://10.0.0.1:55555" in line(text, "link")
    n_dropped = line(text, "dropped:").removeprefix("    dropped: no_link").strip()
    assert int(n_dropped) >= 30
    assert f"outbound, {n_dropped} dropped" in text
    assert line(text, "tun-writer").split()[-1] == "1"


@pytest.mark.parametrize("arguments", [(), ("-i", INTERFACE)])
def test_without_a_gateway_status_is_one_line_and_fails(
    lab: Lab, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    gateway = start_gateway(lab.host("server"), tmp_path, "serve")
    wait_until(lambda: status(gateway, *arguments).returncode == 0, "status", timeout_s=15)
    assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    done = status(gateway, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith("fastun: no gateway runs ")


def test_a_killed_gateways_socket_does_not_stop_the_next(lab: Lab, tmp_path: Path) -> None:
    host = lab.host("server")
    killed = start_gateway(host, tmp_path, "serve")
    wait_until(lambda: status(killed).returncode == 0, "status", timeout_s=15)
    assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: host.devices() == ["lo"], "the device is gone")
    following = start_gateway(host, tmp_path, "serve")
    wait_until(lambda: status(following).returncode == 0, "status", timeout_s=15)
    assert status_json(following)["pid"] == following.process.pid
    assert following.stop() == 0
    assert not (run_dir(following) / f"{INTERFACE}.sock").exists()
