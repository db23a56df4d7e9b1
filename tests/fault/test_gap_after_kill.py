"""For how long nothing comes out of a tunnel on UDP one of whose workers is killed.

Numbered packets go through it, 2,000 a second, and nothing else; tests/conftest.py has the
topology. The figures are those of the machine with all that it does beside: on two processors that
are busy, most of a gap is waiting for one of them.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from tests.fault.test_replayed_after_kill import Numbers
from tests.fault.test_worker_killed import ROLES
from tests.support.accounting import assert_adds_up
from tests.support.processes import find_worker, kill_worker

if TYPE_CHECKING:
    from tests.conftest import StartTunnel
    from tests.support.figures import Figures

N_KILLS = 100
PAUSE_S = 0.3  # one that dies young again and again is replaced without haste


@pytest.mark.promise("A worker that is killed on UDP is missed for a moment")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("role", "n_kills"),
    [
        pytest.param("link-reader", 4, id="link-reader"),
        *(pytest.param(each, N_KILLS, id=f"{each}-100", marks=pytest.mark.soak) for each in ROLES),
    ],
)
def test_a_killed_worker_is_missed_for_a_moment(
    tunnel: StartTunnel, role: str, n_kills: int, figures: Figures
) -> None:
    pair = tunnel(transport="udp")
    numbers = Numbers(pair.client.host, pair.server.host, pair.server.inner_address)
    # The server takes in what the client gives out.
    victim = pair.client if role in ("tun-reader", "link-writer") else pair.server
    gaps_s = []
    with numbers.flowing():
        time.sleep(PAUSE_S)
        for _ in range(n_kills):
            numbers.take_longest_gap_s()
            pid = kill_worker(victim, role)
            wait_until(lambda p=pid: find_worker(victim, role) not in (None, p), "a successor")
            time.sleep(PAUSE_S)
            gaps_s.append(numbers.take_longest_gap_s())
    gaps_s.sort()
    median_s, most_s = statistics.median(gaps_s), gaps_s[int(0.95 * len(gaps_s))]
    print(  # noqa: T201
        f"{n_kills} kills of a {role}: median gap {median_s * 1000:.1f} ms, 95 % within"
        f" {most_s * 1000:.1f}, the longest {gaps_s[-1] * 1000:.1f}; load {os.getloadavg()[0]:.1f}"
    )
    figures.worst("median gap", median_s, "s")
    figures.worst("95 % within", most_s, "s")
    figures.worst("longest gap", gaps_s[-1], "s")
    assert len(numbers.numbers) == numbers.n_received, "a packet came out twice"
    assert gaps_s[-1] < 2.0
    assert_adds_up((pair.client, pair.server))
