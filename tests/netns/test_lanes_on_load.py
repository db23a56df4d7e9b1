"""Two ends of three lanes over TCP: one carries; others are opened when there is load for them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.host import wait_until
from fastun.lab.traffic import ping
from tests.support.accounting import assert_adds_up
from tests.support.lanes_at_once import BY_LITTLE_LOAD
from tests.support.lanes_load import lanes_of
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from tests.conftest import StartTunnel

N_LANES = 3
LANES = ("--lanes", str(N_LANES))
N_FLOWS = 64


def test_without_load_one_lane_has_all_and_nothing_crosses(tunnel: StartTunnel) -> None:
    pair = tunnel(server_arguments=LANES, client_arguments=LANES)
    server, client = pair.server, pair.client
    for n in range(N_FLOWS):
        with client.host.socket(kind=socket.SOCK_DGRAM) as flow:
            flow.bind((client.inner_address, 20_000 + n))
            flow.sendto(b"x", (server.inner_address, 9))
    assert ping(client.host, server.inner_address, n=20, interval_s=0.02).n_received == 20
    for gateway in (server, client):
        scrape = gateway.scrape()
        assert scrape.total("fastun_crossed_packets_total") == 0
        for role in ("tun-reader", "link-writer", "link-reader", "tun-writer"):
            carried = [
                scrape.total("fastun_packets_total", role=role, lane=str(lane))
                for lane in range(N_LANES)
            ]
            assert carried[0] >= 20
            assert carried[1:] == [0] * (N_LANES - 1)
        assert lanes_of(gateway) == [0]


def test_load_opens_one_after_the_other_and_what_is_open_stays(
    tunnel: StartTunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_tunnel, "FASTUN", BY_LITTLE_LOAD)
    pair = tunnel(server_arguments=LANES, client_arguments=LANES)
    server, client = pair.server, pair.client
    there = (client.host, server.host, server.inner_address)
    all_lanes = list(range(N_LANES))
    n = 0
    while lanes_of(client) != all_lanes:
        assert (n := n + 1) <= 40
        assert start_transfer(*there, n_bytes=5 * 10**7).result(timeout=60).is_exact
    wait_until(lambda: lanes_of(server) == all_lanes, "so has the server")
    flows = [start_transfer(*there, n_bytes=10**6, port=7400 + n) for n in range(12)]
    assert all(flow.result(timeout=60).is_exact for flow in flows)
    scrape = client.scrape()
    for lane in all_lanes:
        assert scrape.total("fastun_packets_total", role="link-writer", lane=str(lane)) > 100
    assert lanes_of(client) == all_lanes
    assert_adds_up((server, client))
