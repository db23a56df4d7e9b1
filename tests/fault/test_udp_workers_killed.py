"""All workers of one side are killed in one instant, on UDP; tests/conftest.py has the topology."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from tests.fault.test_worker_killed import ROLES
from tests.support.processes import find_worker
from tests.support.promised import promised_s
from tests.support.transfer import probing

if TYPE_CHECKING:
    from fastun.lab.tunnel import GatewayProcess
    from tests.conftest import StartTunnel

N_TIMES = 3
OUTAGE_MAX_S = promised_s(2)


def kill_all_workers(gateway: GatewayProcess) -> None:
    def pids() -> list[int]:
        return [pid for role in ROLES if (pid := find_worker(gateway, role)) is not None]

    wait_until(lambda: len(pids()) == len(ROLES), "all workers run")
    for pid in pids():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("role", ["client", "server"])
def test_four_workers_killed_at_once_are_replaced_within_two_seconds(
    tunnel: StartTunnel, role: str
) -> None:
    pair = tunnel(transport="udp")
    outages_s = []
    with probing(pair.client.host, pair.server.host, pair.server.inner_address) as probe:
        for _ in range(N_TIMES):
            kill_all_workers(getattr(pair, role))
            outages_s.append(probe.seconds_until_answer(20))
            time.sleep(1)
    print(f"{role}: outages", *(f"{outage:.2f}" for outage in outages_s), "s")  # noqa: T201
    assert max(outages_s) < OUTAGE_MAX_S
