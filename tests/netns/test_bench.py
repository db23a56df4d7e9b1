"""`fastun bench` on the real thing: two namespaces of its own, and a live tunnel of a laboratory.

The topology of the live one stands in tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.bench.machine import CASES
from fastun.bench.protocol import PORT
from fastun.lab.host import NAMESPACE_DIR, wait_until
from fastun.lab.network import missing_capability
from fastun.native import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.tunnel import GatewayProcess
    from tests.conftest import StartTunnel

BENCH = (sys.executable, "-m", "fastun", "bench")


def namespaces_of(pid: int) -> list[str]:
    if not NAMESPACE_DIR.is_dir():
        return []
    return [path.name for path in NAMESPACE_DIR.iterdir() if path.name.startswith(f"ft-{pid}-")]


@pytest.fixture
def machine() -> Iterator[subprocess.Popen[str]]:
    """`fastun bench`, started, and nothing of it left in the end."""
    missing = missing_capability()
    if missing:
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [*BENCH, "--seconds", "0.25", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": directory},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
        assert not list(Path(directory).iterdir())
    assert not namespaces_of(process.pid)


@pytest.mark.alone
def test_each_wire_is_measured_both_ways_beside_veth(machine: subprocess.Popen[str]) -> None:
    said, progress = machine.communicate(timeout=120)
    assert machine.returncode == 0, progress
    figures = json.loads(said)
    measured = [(each["wire"], each["transport"]) for each in figures["wires"]]
    assert measured == [(case.wire, case.transport) for case in CASES]
    for each in figures["wires"]:
        assert figures["veth_ping_ms"] < each["ping_ms"] < 1000
        for way in (each["to_server"], each["to_client"]):
            assert 1e7 < way["bits_per_second"] < way["veth_bits_per_second"]
            for end in ("sender", "receiver"):
                cpu = way[f"{end}_cpu_us_per_mebibyte"]
                assert set(cpu) == set(ROLES)
            assert way["sender_cpu_us_per_mebibyte"]["tun-reader"] > 0
            assert way["receiver_cpu_us_per_mebibyte"]["tun-writer"] > 0
    assert "plain TCP: client to server" in progress.splitlines()


def test_an_interrupt_is_one_line_and_leaves_nothing(machine: subprocess.Popen[str]) -> None:
    assert machine.stderr is not None
    for line in machine.stderr:
        if line.endswith("client to server\n"):
            break
    time.sleep(0.3)
    assert namespaces_of(machine.pid)
    machine.send_signal(signal.SIGINT)
    said, complaint = machine.communicate(timeout=10)
    assert (machine.returncode, said) == (1, "")
    assert complaint == "fastun: interrupted before any measurement was complete\n"


def bench(
    gateway: GatewayProcess, *arguments: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    run_dir = str(gateway.log_file.parent)
    return gateway.host.run(*BENCH, *arguments, "--run-dir", run_dir, check=check)


@contextlib.contextmanager
def serving(gateway: GatewayProcess) -> Iterator[subprocess.Popen[bytes]]:
    run_dir = str(gateway.log_file.parent)
    process = gateway.host.spawn(*BENCH, "--serve", "--run-dir", run_dir, stdout=subprocess.PIPE)
    try:
        wait_until(lambda: gateway.host.listens(PORT), "fastun bench --serve")
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_live_tunnel_is_measured_from_either_end_by_name(tunnel: StartTunnel) -> None:
    pair = tunnel()
    for here, there, name in (
        (pair.client, pair.server, "server"),
        (pair.server, pair.client, "client"),
    ):
        with serving(there) as process:
            done = bench(here, "--peer", name, "--seconds", "0.3", "--json")
            figures = json.loads(done.stdout)
            assert figures["peer"] == name
            assert figures["address"] == there.inner_address
            assert (figures["wire"], figures["transport"]) == ("wireguard", "tcp")
            assert 0 < figures["round_trip_median_ms"] < 1000
            for way, role in (("sending", "tun-reader"), ("receiving", "link-reader")):
                assert figures[way]["bits_per_second"] > 1e7
                assert figures[way]["cpu_us_per_mebibyte"][role] > 0
            process.send_signal(signal.SIGINT)
            assert process.wait(5) == 0
            assert process.stdout is not None
            said = process.stdout.read().decode().splitlines()
            assert said[1].endswith(f"fastun bench --peer {there.inner_address}")
            assert said[-1] == f"{here.inner_address}: source, 0.3 s"


def test_nothing_listens_unless_asked_to_and_the_line_says_what_to_run(tunnel: StartTunnel) -> None:
    pair = tunnel()
    assert not pair.server.host.listens(PORT)
    done = bench(pair.client, "--peer", "server", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("fastun: --peer 'server': nothing listens at ")
    assert "run there: fastun bench --serve" in done.stderr


def test_what_serves_is_reached_through_the_tunnel_only(tunnel: StartTunnel) -> None:
    pair = tunnel()
    with serving(pair.server):
        outside = pair.client.host.socket()
        # The inner address by the outer path: the host has it, but not that device.
        pair.client.host.ip("route", "add", "10.99.0.1/32", "via", "10.0.0.1")
        with outside:
            outside.settimeout(1)
            with pytest.raises(OSError, match=r"refused|timed out"):
                outside.connect((pair.server.inner_address, PORT))
        pair.client.host.ip("route", "del", "10.99.0.1/32")
        done = bench(
            pair.client, "--peer", pair.server.inner_address, "--seconds", "0.2", "--reverse"
        )
        assert "from server " in done.stdout


def test_the_served_end_ends_with_its_gateway(tunnel: StartTunnel) -> None:
    pair = tunnel()
    with serving(pair.server) as process:
        pair.server.stop()
        assert process.wait(5) == 1
