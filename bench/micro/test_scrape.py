"""What a scrape costs the gateway: processor time by number of peers, all of them connected.

    python -m pytest bench/micro/test_scrape.py --benchmark-only

The links' sockets are one real TCP connection, so the kernel is asked for each as in a gateway;
shared memory, histograms, text and gzip (Prometheus asks for it) are the gateway's own. Not in it:
HTTP, and the processor times of workers, of which none runs.
All times are processor time, which other work on the machine disturbs less than the time on the
clock; `extra_info` has it in ms, and as a ratio to a calibration loop.
"""

from __future__ import annotations

import gzip
import time
from typing import TYPE_CHECKING

import pytest

from bench.micro.calibration import measure
from fastun.metrics.collector import GatewayCollector
from fastun.metrics.server import COMPRESSION_LEVEL
from tests.unit.metrics.test_metrics import have, idle_gateway, link_over, peers_named, tcp_pair

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("n_peers", [1, 100, 1000])
def test_scrape(benchmark: BenchmarkFixture, n_peers: int) -> None:
    """Measure scrapes that follow one another."""
    with idle_gateway() as gateway, tcp_pair() as (one, _):
        have(gateway, *peers_named(*(f"peer{n}" for n in range(n_peers))))
        gateway.links.by_slot.update({slot: link_over(one) for slot in gateway.peer_slots.by_slot})
        collector = GatewayCollector(gateway)

        def scrape() -> str:
            text = collector.text()
            gzip.compress(text.encode(), COMPRESSION_LEVEL)
            return text

        text = measure(benchmark, scrape, subject=f"scrape-{n_peers}", n_rounds=30)
        collector.close()
    assert text.count("\nfastun_peer_up{") == n_peers
    benchmark.extra_info |= {
        "bytes": len(text),
        "samples": sum(not line.startswith("#") for line in text.splitlines()),
    }
    if benchmark.stats is not None:
        stats = benchmark.stats.stats
        benchmark.extra_info |= {
            "cpu_ms_median": round(stats.median * 1e3, 2),
            "cpu_ms_min": round(stats.min * 1e3, 2),
            "cpu_ms_max": round(stats.max * 1e3, 2),
        }
