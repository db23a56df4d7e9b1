"""Workers are killed under load; see tests/conftest.py for the topology."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun.lab.host import wait_until
from fastun.lane import lane
from tests.support.accounting import assert_adds_up
from tests.support.processes import find_worker, kill_worker
from tests.support.promised import promised_s
from tests.support.transfer import probing, start_transfer

if TYPE_CHECKING:
    from fastun.lab.tunnel import GatewayProcess, Transport
    from tests.conftest import StartTunnel
    from tests.support.figures import Figures

ROLES = ("tun-reader", "link-writer", "link-reader", "tun-writer")
KILLS_AND_BYTES = pytest.mark.parametrize(
    ("n_kills", "n_bytes"),
    [
        pytest.param(4, 10**8, id="4"),
        pytest.param(20, 10**9, id="20", marks=pytest.mark.soak),
    ],
)


def open_files(gateway: GatewayProcess) -> int:
    return psutil.Process(gateway.process.pid).num_fds()


@pytest.mark.promise(
    "A killed worker is back within a second, and a TCP transfer through it is byte-exact"
)
@KILLS_AND_BYTES
@pytest.mark.parametrize("wire", ["wireguard", "plain"])
@pytest.mark.parametrize("role", ROLES)
def test_a_killed_worker_is_replaced_within_a_second_and_nothing_is_lost(  # noqa: PLR0917 (fixtures)
    tunnel: StartTunnel, role: str, wire: str, n_kills: int, n_bytes: int, figures: Figures
) -> None:
    pair = tunnel(wire=wire)
    gateways = (pair.client, pair.server)
    address = pair.server.inner_address
    n_files_before = [open_files(gateway) for gateway in gateways]
    outages = []
    kills_go_on = True
    transfer = start_transfer(
        pair.client.host,
        pair.server.host,
        address,
        n_bytes=n_bytes,
        goes_on=lambda: kills_go_on,
    )
    with probing(pair.client.host, pair.server.host, address) as probe:
        for n in range(n_kills):
            kill_worker(gateways[n % 2], role)
            outages.append(probe.seconds_until_answer())
            time.sleep(0.15)
    kills_go_on = False
    result = transfer.result(timeout=60)
    figures.worst("longest outage", max(outages), "s")
    figures.total("kills", n_kills)
    assert result.is_exact
    assert result.received.n_bytes >= n_bytes
    assert max(outages) < promised_s(1)
    assert_adds_up(gateways)
    for gateway, n_files in zip(gateways, n_files_before, strict=True):
        restarts = gateway.scrape().total("fastun_worker_restarts_total", role=role)
        assert restarts == n_kills / 2
        wait_until(lambda g=gateway, n=n_files: open_files(g) <= n, "no descriptor is left open")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("role", ["tun-reader", "link-reader"])
def test_keys_made_while_their_worker_is_held_back_are_there_when_it_comes(
    tunnel: StartTunnel, role: str, transport: Transport
) -> None:
    pair = tunnel(transport=transport)
    with probing(pair.client.host, pair.server.host, pair.server.inner_address) as probe:
        for _ in range(lane.SHORT_LIVES_MAX):
            pid = kill_worker(pair.server, role)
            wait_until(lambda p=pid: find_worker(pair.server, role) != p, "it is gone")
        probe.seconds_until_answer()  # maybe by a handshake while there was none
        time.sleep(lane.RESPAWN_DELAY_S + 0.5)
        assert probe.seconds_until_answer() < promised_s(3.0)


@pytest.mark.promise("A killed gateway takes its workers and its device along within 2 s")
def test_a_gateway_killed_takes_its_workers_their_template_and_its_device_along(
    tunnel: StartTunnel,
) -> None:
    pair = tunnel()
    children = psutil.Process(pair.client.process.pid).children()
    assert len(children) == len(ROLES) + 2  # their template, and the host process
    pair.client.stop(signal.SIGKILL)
    gone, alive = psutil.wait_procs(children, timeout=promised_s(2))
    assert not alive
    assert len(gone) == len(children)
    wait_until(
        lambda: pair.client.interface not in pair.client.host.devices(),
        "device",
        timeout_s=promised_s(2),
    )
