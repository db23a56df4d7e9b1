"""Any process of either end is killed or stopped, at any moment, under traffic.

Which there are the process tree says. tests/conftest.py has the topology.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import LabError, wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.tunnel import (
    CLIENT_ADDRESSES,
    SERVER_ADDRESSES,
    Tunnel,
    add_peer,
    endpoints,
    start_gateway,
)
from fastun.native import ROLES
from tests.support.accounting import assert_adds_up
from tests.support.failing_calls import NEVER_RETURNS
from tests.support.faulted_tunnel import FaultedTunnel
from tests.support.processes import is_gone, processes, worker_pid
from tests.support.promised import promised_s
from tests.support.serve_and_dial import log_of
from tests.support.transfer import Probe, probing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.tunnel import GatewayProcess
    from tests.support.figures import Figures

IS_LONG = os.environ.get("FASTUN_SOAK") == "1"
NOTICED_S, STUCK_NOTICED_S = promised_s(3), promised_s(10)
BACK_S = 20.0
N_KILLS = int(os.environ.get("FASTUN_SOAK_KILLS", "500"))
END_S = 15.0


class Ends:
    """Both ends of a tunnel over UDP, started again when they end."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        """Start both."""
        self.server_host, self.client_host = lab.host("server"), lab.host("client")
        lab.wire(self.server_host, self.client_host, ["10.0.0.1/24"], ["10.0.0.2/24"])
        self.directory = directory
        self.server = self.serve()
        self.file = str(add_peer(self.server, "client", "10.0.0.1", "udp"))
        self.client = self.connect()
        Tunnel(self.server, self.client).wait_up()

    def serve(self) -> GatewayProcess:
        """Start the server."""
        listen = ("--listen", *endpoints("10.0.0.1", "udp"))
        # fmt: off
        return start_gateway(self.server_host, self.directory, "serve", *listen, wire="wireguard",
                             addresses=SERVER_ADDRESSES)

    def connect(self) -> GatewayProcess:
        """Start the client."""
        return start_gateway(
            self.client_host,
            self.directory,
            "connect",
            self.file,
            wire="wireguard",
            addresses=CLIENT_ADDRESSES,
        )
        # fmt: on

    def start_again(self) -> None:
        """Start the end that has ended, as a service manager does."""
        if self.server.process.poll() is not None:
            self.server = self.serve()
        if self.client.process.poll() is not None:
            self.client = self.connect()


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as lab:
        yield Ends(lab, tmp_path_factory.mktemp("ends"))


@pytest.fixture
def probe(ends: Ends) -> Iterator[Probe]:
    with probing(ends.client_host, ends.server_host, ends.server.inner_address) as running:
        yield running


def seconds_until_back(ends: Ends, probe: Probe) -> float:
    """Return how long it takes until a packet makes its way, with ends started that have ended."""
    begun_s = time.monotonic()
    while time.monotonic() - begun_s < BACK_S:
        ends.start_again()
        with contextlib.suppress(LabError):
            probe.seconds_until_answer(0.3)
            return time.monotonic() - begun_s
    raise LabError(f"not back within {BACK_S:g} s")


def victims(ends: Ends, *, with_all: bool) -> list[tuple[GatewayProcess, int, str]]:
    return [
        (end, pid, title)
        for end in (ends.client, ends.server)
        for pid, title in processes(end).items()
        if with_all or title not in ("gateway", "host")
    ]


@pytest.mark.promise("Whichever process is killed, and whenever, the tunnel is back by itself")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "n_kills", [pytest.param(8, id="8"), pytest.param(N_KILLS, id="many", marks=pytest.mark.soak)]
)
def test_the_tunnel_is_back_whichever_process_is_killed(
    ends: Ends, probe: Probe, n_kills: int, figures: Figures
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    for n in range(n_kills):
        time.sleep(chance.uniform(0, 0.4))
        # In the short form once: then both ends may have to be started again, which is what costs.
        end, pid, title = chance.choice(victims(ends, with_all=IS_LONG or n == 0))
        killed_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        if title in ("gateway", "host"):
            end.process.wait(END_S)  # its workers carry on until it has
        seconds_until_back(ends, probe)
        outage_s = time.monotonic() - killed_s
        kind = "gateway or host process" if title in ("gateway", "host") else "worker or template"
        print(f"{end.role}'s {title} killed: back after {outage_s:.2f} s")  # noqa: T201
        figures.worst(f"back after the death of a {kind}", outage_s, "s")
    figures.total("kills", n_kills)
    assert_adds_up((ends.client, ends.server))


@pytest.mark.promise("A process that a signal has stopped is noticed within 3 s and replaced")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "n_stops", [pytest.param(3, id="3"), pytest.param(100, id="100", marks=pytest.mark.soak)]
)
def test_a_stopped_process_is_replaced(
    ends: Ends, probe: Probe, n_stops: int, figures: Figures
) -> None:
    chance = random.Random()
    for _ in range(n_stops):
        time.sleep(chance.uniform(0, 0.4))
        end, pid, title = chance.choice(victims(ends, with_all=False))
        os.kill(pid, signal.SIGSTOP)
        stopped_s = time.monotonic()
        wait_until(lambda gone=pid: is_gone(gone), f"{title} replaced", timeout_s=NOTICED_S)
        noticed_s = time.monotonic() - stopped_s
        outage_s = seconds_until_back(ends, probe)
        print(f"{end.role}'s {title} stopped: {noticed_s:.2f} s, {outage_s:.2f} s")  # noqa: T201
        figures.worst("noticed after", noticed_s, "s")
        figures.worst("back after another", outage_s, "s")
    figures.total("stops", n_stops)
    assert_adds_up((ends.client, ends.server))


@pytest.mark.promise("A stopped host process is said within 5 s, and the tunnel carries on")
def test_a_stopped_host_process_is_said(ends: Ends, probe: Probe, figures: Figures) -> None:
    pid = next(pid for pid, title in processes(ends.client).items() if title == "host")
    os.kill(pid, signal.SIGSTOP)
    said = f"the host process is stopped; run 'kill -CONT {pid}'"
    begun_s, within_s = time.monotonic(), promised_s(5)
    try:
        wait_until(lambda: said in log_of(ends.client), "the log says so", timeout_s=within_s)
        noticed_s = time.monotonic() - begun_s
        assert said in ends.client.get("/readyz")[1]
        assert probe.seconds_until_answer(BACK_S) < promised_s(1)
        for role in ROLES:
            worker = worker_pid(ends.client, role)
            os.kill(worker, signal.SIGKILL)
            wait_until(partial(is_gone, worker), "its end")
            back_s = probe.seconds_until_answer(BACK_S)
            assert back_s < promised_s(3), f"{role} was killed"
            figures.worst("back after a worker's death", back_s, "s")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(
        lambda: "the host process answers again" in log_of(ends.client),
        "that it goes on",
    )
    wait_until(lambda: ends.client.get("/readyz")[1] == "ready\n", "ready again")
    figures.worst("noticed after", noticed_s, "s")


@pytest.mark.promise("While a gateway is stopped its tunnel carries, and it goes on as before")
@pytest.mark.parametrize("stopped_s", [2, pytest.param(60, id="60", marks=pytest.mark.soak)])
def test_a_stopped_gateway_stops_no_traffic(
    ends: Ends, probe: Probe, stopped_s: float, figures: Figures
) -> None:
    pids = processes(ends.server)
    os.kill(ends.server.process.pid, signal.SIGSTOP)
    deadline_s, longest_s = time.monotonic() + stopped_s, 0.0
    try:
        while time.monotonic() < deadline_s:
            longest_s = max(longest_s, probe.seconds_until_answer(BACK_S))
            time.sleep(0.02)
    finally:
        os.kill(ends.server.process.pid, signal.SIGCONT)
    assert longest_s < promised_s(1)
    assert probe.seconds_until_answer(BACK_S) < promised_s(2)
    time.sleep(2)  # what a hasty watch would end comes late
    assert processes(ends.server) == pids
    figures.worst("longest without an answer", longest_s, "s")


@pytest.mark.promise("A worker that hangs is noticed within 10 s and replaced")
@pytest.mark.parametrize(
    ("role", "call"),
    [
        ("tun-writer", "futex"),
        pytest.param("tun-reader", "read", marks=pytest.mark.soak),
        pytest.param("link-writer", "futex", marks=pytest.mark.soak),
        pytest.param("link-reader", "recvmmsg", marks=pytest.mark.soak),
        pytest.param("link-reader", "recvmsg", marks=pytest.mark.soak),
    ],
)
def test_a_worker_that_hangs_is_replaced(
    lab: Lab, tmp_path: Path, role: str, call: str, figures: Figures
) -> None:
    with FaultedTunnel(lab, tmp_path, "udp") as tunnel:
        tunnel.seconds_until_good()
        pid, begun_s = tunnel.worker(role).pid, time.monotonic()
        with tunnel.calls.failing(role, call, NEVER_RETURNS):
            wait_until(lambda: is_gone(pid), f"{role} replaced", timeout_s=STUCK_NOTICED_S)
            noticed_s = time.monotonic() - begun_s
        outage_s = tunnel.seconds_until_good()
        name = "fastun_worker_unresponsive_total"
        assert tunnel.client.scrape().total(name, role=role, reason="stuck") >= 1
        assert any("it has not answered" in line for line in tunnel.client.log_tail(40))
    print(f"{role} hangs in {call}: {noticed_s:.1f} s, {outage_s:.2f} s")  # noqa: T201
    assert outage_s < 2 * STUCK_NOTICED_S
    figures.worst("noticed after", noticed_s, "s")
    figures.worst("back after another", outage_s, "s")
