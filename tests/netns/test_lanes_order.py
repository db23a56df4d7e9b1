"""Four lanes at both ends of a tunnel over TCP: a flow keeps to one, and all have their share."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from tests.support.lanes_order import N_LANES, N_NUMBERED, PACE_S, check_order, four_lanes
from tests.support.lanes_seen import n_connections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.tunnel import Tunnel
    from tests.support.figures import Figures

N_FLOWS = 1024


@pytest.fixture(scope="module")
def tunnel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tunnel]:
    with four_lanes(tmp_path_factory.mktemp("order"), "tcp") as pair:
        wait_until(lambda: n_connections(pair.client) == N_LANES, "a connection a lane")
        yield pair


@pytest.mark.promise("A flow keeps its order over several lanes, also beside many others")
def test_numbered_flows_beside_many_transfers_keep_their_order(
    tunnel: Tunnel, figures: Figures
) -> None:
    check_order(tunnel, figures, seconds=3)


def test_many_equal_flows_are_even_over_the_lanes(tunnel: Tunnel) -> None:
    def carried() -> list[float]:
        scrape = tunnel.client.scrape()
        return [
            scrape.total("fastun_packets_total", role="link-writer", lane=str(lane))
            for lane in range(N_LANES)
        ]

    before = carried()
    for n in range(N_FLOWS):
        with tunnel.client.host.socket(kind=socket.SOCK_DGRAM) as flow:
            flow.bind((tunnel.client.inner_address, 20_000 + n))
            for _ in range(N_LANES):
                flow.sendto(b"x", (tunnel.server.inner_address, 9))
        if n % 32 == 0:
            time.sleep(PACE_S)
    wait_until(lambda: sum(carried()) - sum(before) >= N_LANES * N_FLOWS, "all are out")
    shares = [(now - was) / N_FLOWS for now, was in zip(carried(), before, strict=True)]
    print(shares)  # noqa: T201
    assert all(0.8 <= share <= 1.2 for share in shares)


def test_flows_without_answers_cross_for_a_moment_and_then_keep_to_the_lane_that_reads_them(
    tunnel: Tunnel,
) -> None:
    client, server = tunnel.client, tunnel.server
    stopped = threading.Event()

    def send() -> None:
        flows = [client.host.socket(kind=socket.SOCK_DGRAM) for _ in range(N_NUMBERED)]
        while not stopped.is_set():
            for flow in flows:
                flow.sendto(b"x", (server.inner_address, 9))
            time.sleep(PACE_S)
        for flow in flows:
            flow.close()

    def counted() -> tuple[float, float]:
        scrape = client.scrape()
        crossed = scrape.total("fastun_crossed_packets_total")
        return scrape.total("fastun_packets_total", role="link-writer"), crossed

    def none_crosses() -> bool:
        sent, crossed = counted()
        wait_until(lambda: counted()[0] > sent + 20 * N_NUMBERED, "more are sent", timeout_s=20)
        return counted()[1] == crossed

    chain = "{ type filter hook output priority 0; icmp type 3 drop; }"  # what would answer
    server.host.run("nft", f"table inet quiet {{ chain out {chain}; }}")
    sender, (_, before) = threading.Thread(target=send), counted()
    sender.start()
    try:
        wait_until(lambda: counted()[1] > before, "they cross")
        wait_until(none_crosses, "they cross no more", timeout_s=20)
    finally:
        stopped.set()
        sender.join()
        server.host.run("nft", "delete", "table", "inet", "quiet")
