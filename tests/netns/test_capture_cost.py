"""What a capture costs a tunnel at full load, in interleaved rounds: for `make soak`."""

from __future__ import annotations

import signal
import statistics
import sys
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import iperf3
from fastun.lab.tunnel import Tunnel, start_tunnel
from tests.support import pcapng_file

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab

N_ROUNDS = 5


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_capture_beside_full_load_costs_a_fifth_at_most(
    lab: Lab, tmp_path: Path, transport: str
) -> None:
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
    tunnel = start_tunnel(server, client, "10.0.0.1", tmp_path, transport=transport)
    tunnel.wait_up()
    ratios = []
    for number in range(N_ROUNDS):
        alone = goodput(tunnel)
        beside = captured_goodput(tunnel, tmp_path, number)
        ratios.append(beside / alone)
        print(f"alone {alone / 1e9:.2f}, beside {beside / 1e9:.2f} Gbit/s: {ratios[-1]:.2f}")  # noqa: T201
    print(f"{transport}: median {statistics.median(ratios):.2f}")  # noqa: T201
    assert statistics.median(ratios) >= 0.8


def captured_goodput(tunnel: Tunnel, home: Path, number: int) -> float:
    file = home / f"{number}.pcapng"
    process = tunnel.server.host.spawn(
        *(sys.executable, "-m", "fastun", "capture", "--run-dir", str(home / "server")),
        *("-w", str(file), "--size", "4GB"),
    )
    wait_until(lambda: file.exists() and file.stat().st_size > 0, "it begins", timeout_s=15)
    measured = goodput(tunnel)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    (device,) = pcapng_file.parse(file.read_bytes()).interfaces
    print(f"{device.received} frames, {device.dropped} lost")  # noqa: T201
    file.unlink()
    return measured


def goodput(tunnel: Tunnel) -> float:
    return iperf3(
        tunnel.client.host, tunnel.server.host, tunnel.server.inner_address, duration_s=2
    ).bits_per_second
