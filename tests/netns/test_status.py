"""`fastun status` of a running tunnel; tests/conftest.py has the topology."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import INTERFACE, start_gateway
from fastun.lane.lane import RING_BYTES
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Scrape
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


@pytest.mark.parametrize(("wire", "name"), [("wireguard", "server"), ("plain", "peer")])
def test_status_says_in_80_columns_what_the_metrics_say(
    tunnel: StartTunnel, wire: str, name: str
) -> None:
    pair = tunnel(wire=wire)
    start_transfer(
        pair.client.host, pair.server.host, pair.server.inner_address, n_bytes=10 * MEGABYTE
    ).result(timeout=30)
    before, done, after = pair.client.scrape(), status(pair.client), pair.client.scrape()
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert max(map(len, text.splitlines())) <= COLUMNS
    assert text.isascii()
    assert "\x1b" not in text  # not a terminal
    assert text.startswith(f"{INTERFACE}      connect, tun, {wire} wire, MTU 1500, up ")
    assert line(text, "address").split()[1:] == list(pair.client.addresses)
    assert line(text, "peers").split()[1:] == ["1", "connected"]
    lines = text.splitlines()
    heading = next(i for i, found in enumerate(lines) if found.startswith("peer  "))
    sealed_only = ["handshake"] if wire == "wireguard" else []
    assert lines[heading].split() == [
        "peer",
        "via",
        "remote",
        "up",
        "RTT",
        "received",
        "sent",
        *sealed_only,
    ]
    peer = lines[heading + 1].split()
    assert peer[:3] == [name, "tcp", "10.0.0.1:55555"]
    # Two cells of two words: the age of the link and the round trip time.
    assert (peer[4], peer[6]) == ("s", "ms")
    # A transfer of 10 MB, which the client sends.
    assert (peer[8], peer[10]) == ("kB", "MB")
    assert 10 <= float(peer[9]) < 20
    for role in ("tun-reader", "link-writer", "link-reader", "tun-writer"):
        packets = int(line(text, role).split()[1].replace(",", ""))
        assert_between(before, packets, after, "fastun_packets_total", role)
    roles = [text.index(f"  {role} ") for role in ("tun-reader", "ring", "link-writer")]
    assert roles == sorted(roles)
    n_dropped = before.total("fastun_dropped_packets_total", direction="outbound")
    assert f"outbound, {n_dropped:.0f} dropped" in text


@pytest.mark.parametrize(("wire", "peer_name"), [("wireguard", "client"), ("plain", "peer")])
def test_the_json_agrees_with_the_metrics(tunnel: StartTunnel, wire: str, peer_name: str) -> None:
    pair = tunnel(wire=wire)
    before, report, after = pair.server.scrape(), status_json(pair.server), pair.server.scrape()
    assert report["pid"] == pair.server.process.pid
    assert (report["role"], report["interface"]) == ("serve", INTERFACE)
    assert report["listen"] == ["tcp://10.0.0.1:55555"]
    assert (report["public_key"] is None) == (wire == "plain")
    (peer,) = report["peers"]
    assert (peer["name"], peer["up"]) == (peer_name, True)
    assert peer["remote"].startswith("10.0.0.2:")
    assert peer["since_unix_seconds"] > report["started_unix_seconds"]
    if wire == "wireguard":
        handshake_s = peer["last_handshake_unix_seconds"]
        assert handshake_s == before.total("fastun_peer_last_handshake_timestamp_seconds")
        assert report["started_unix_seconds"] < handshake_s < time.time()
    else:
        assert peer["last_handshake_unix_seconds"] is None
    assert peer["link"]["software"].startswith("fastun ")
    assert 0 < peer["link"]["tcp"]["rtt_seconds"] < 1
    for counter in ("receive_packets", "receive_bytes", "transmit_packets", "transmit_bytes"):
        name = f"fastun_peer_{counter}_total"
        assert 0 < before.total(name) <= peer[counter] <= after.total(name)
    (lane,) = report["lanes"]
    for direction in (lane["outbound"], lane["inbound"]):
        assert direction["ring_capacity_bytes"] == RING_BYTES
        for stage in (direction["reader"], direction["writer"]):
            for counter in ("packets", "frames", "bytes"):
                name = f"fastun_{counter}_total"
                assert_between(before, stage[counter], after, name, stage["role"])
            assert stage["up"] is True
            assert psutil.Process(stage["pid"]).ppid() == pair.server.process.pid


def test_drops_and_restarts_show(tunnel: StartTunnel) -> None:
    pair = tunnel(wire="plain")
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
    assert "dialling tcp://10.0.0.1:55555" in line(text, "peers")
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
    assert said.startswith("fastun: no gateway is running ")


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
