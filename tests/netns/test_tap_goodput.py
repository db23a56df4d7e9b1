"""TAP over UDP beside TUN over UDP, in interleaved rounds: for `make soak`."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest

from fastun.lab.traffic import iperf3
from fastun.lab.tunnel import start_tunnel

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import Tunnel

N_ROUNDS = 5


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_tap_over_udp_has_four_fifths_of_tuns_goodput(lab: Lab, tmp_path: Path) -> None:
    pairs = {}
    for mode in ("tun", "tap"):
        server, client = lab.host(f"server-{mode}"), lab.host(f"client-{mode}")
        lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        pair = start_tunnel(server, client, "10.0.0.1", tmp_path, mode=mode, transport="udp")
        pair.wait_up()
        pairs[mode] = pair
    ratios = []
    for _ in range(N_ROUNDS):
        tun, tap = (goodput(pairs[mode]) for mode in ("tun", "tap"))
        ratios.append(tap / tun)
        print(f"TUN {tun / 1e9:.2f}, TAP {tap / 1e9:.2f} Gbit/s: {tap / tun:.2f}")  # noqa: T201
    print(f"median {statistics.median(ratios):.2f}")  # noqa: T201
    assert statistics.median(ratios) >= 0.8


def goodput(pair: Tunnel) -> float:
    return iperf3(
        pair.client.host, pair.server.host, pair.server.inner_address, duration_s=3
    ).bits_per_second
