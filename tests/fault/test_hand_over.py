"""Steps that readers do for sleeping writers; nothing else wakes, and nothing is lost.

See tests/conftest.py for the topology. One tunnel for all of it.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fault.test_worker_killed import ROLES
from tests.support.accounting import assert_adds_up
from tests.support.processes import find_worker, kill_worker
from tests.support.transfer import probing

if TYPE_CHECKING:
    from fastun.lab.tunnel import GatewayProcess, Transport
    from tests.conftest import StartTunnel

READERS = ("tun-reader", "link-reader")
IDLE_S = 2.0


def wake_ups(gateway: GatewayProcess) -> int:
    """How often the four workers went to sleep so far."""
    total = 0
    for role in ROLES:
        status = Path(f"/proc/{find_worker(gateway, role)}/status").read_text(encoding="ascii")
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)
        assert found is not None
        total += int(found[1])
    return total


def in_place(gateway: GatewayProcess, role: str) -> float:
    return gateway.scrape().total("fastun_in_place_packets_total", role=role)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_readers_do_their_sleeping_writers_steps_and_may_be_killed_meanwhile(
    tunnel: StartTunnel, transport: Transport
) -> None:
    pair = tunnel(transport=transport)
    gateways = (pair.client, pair.server)
    time.sleep(1.0)  # what a new interface sends, and a heartbeat
    before = [wake_ups(gateway) for gateway in gateways]
    time.sleep(IDLE_S)
    after = [wake_ups(gateway) for gateway in gateways]
    assert all(now - was <= 4 * IDLE_S for was, now in zip(before, after, strict=True))

    address = pair.server.inner_address
    # more than is done in place, so that it wakes writers that have been idle for long
    pair.client.host.run("ping", "-n", "-s", "8000", "-c", "1", "-W", "2", address)
    pair.client.host.run("ping", "-n", "-c", "20", "-i", "0.02", "-W", "1", address)
    for gateway in gateways:
        assert gateway.scrape().total("fastun_worker_restarts_total") == 0
        assert all(in_place(gateway, role) > 0 for role in READERS)

    flood = pair.client.host.spawn("ping", "-n", "-f", "-s", "200", address)
    with flood, probing(pair.client.host, pair.server.host, address) as probe:
        for n in range(4):
            kill_worker(gateways[n // 2], READERS[n % 2])
            probe.seconds_until_answer()
            time.sleep(0.2)
        flood.terminate()
    assert_adds_up(gateways)
