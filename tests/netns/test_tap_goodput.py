"""Goodput between the peers of a TAP device where processors set the limit: what a way through the
server costs, and that it does not matter how many peers there are.

The topology is in tests/support/tap_network.py.
"""

from __future__ import annotations

import itertools
import statistics
from typing import TYPE_CHECKING

import pytest

from fastun.lab.network import Lab, missing_capability
from tests.support.tap_goodput import beside_the_server, flow
from tests.support.tap_network import TapNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.tunnel import GatewayProcess

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]


@pytest.fixture
def lab() -> Iterator[Lab]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as lab:
        yield lab


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_between_two_peers_beside_that_to_the_server(
    lab: Lab, tmp_path: Path, transport: str
) -> None:
    network = TapNetwork(lab, tmp_path, ("tcp", "tcp") if transport == "tcp" else ("udp", "udp"))
    measured = [beside_the_server(network, *network.peers, duration_s=2) for _ in range(9)]
    for each in measured:
        print(each)  # noqa: T201
    ratio = statistics.median(each.ratio for each in measured)
    # Each packet is sealed, sent, received and opened once more. With processors to spare these run
    # beside the rest; where all are busy, the ratio is that of the CPU times.
    by_cpu = statistics.median(each.ratio_by_cpu for each in measured)
    print(f"{transport}: ratio {ratio:.2f}, by CPU time {by_cpu:.2f}")  # noqa: T201
    assert ratio >= min(0.7, 0.8 * by_cpu)
    assert by_cpu >= 0.4


def packets_a_frame(network: TapNetwork, before: tuple[float, float]) -> float:
    packets, frames = written(network)
    return (packets - before[0]) / (frames - before[1])


def written(network: TapNetwork) -> tuple[float, float]:
    scrape = network.server.scrape()
    return (
        scrape.total("fastun_packets_total", role="link-writer"),
        scrape.total("fastun_frames_total", role="link-writer"),
    )


def test_between_any_two_of_five_as_between_two(tmp_path: Path, lab: Lab) -> None:
    (tmp_path / "two").mkdir()
    two = TapNetwork(lab, tmp_path / "two", ("tcp", "tcp"))
    ratios = []
    with Lab() as another:
        five = TapNetwork(another, tmp_path, ("tcp",) * 5)
        for one, other in itertools.combinations(five.peers, 2):
            before = written(five)
            of_two = between(two, *two.peers)
            of_five = between(five, one, other)
            whole = packets_a_frame(five, before)
            ratios.append(of_five / of_two)
            print(  # noqa: T201
                f"{one.host.name} to {other.host.name}: {of_five:.2f} Gbit/s,"
                f" {whole:.0f} packets a frame; between the only two {of_two:.2f}"
            )
            assert whole > 4
    assert statistics.median(ratios) >= 0.7


def between(network: TapNetwork, one: GatewayProcess, other: GatewayProcess) -> float:
    return flow(network, one, other.host, other.inner_address, duration_s=2).gbit_per_second
