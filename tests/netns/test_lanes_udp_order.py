"""Four lanes at both ends of a tunnel on UDP: a flow keeps to one of them, and its order."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.network import Lab
from fastun.lab.traffic import iperf3
from fastun.lab.tunnel import Tunnel, start_tunnel
from tests.netns.test_lanes_order import N_NUMBERED, N_TCP, PACE_S, Numbered, echo_of, out_of_order
from tests.support.lanes_at_once import AT_ONCE
from tests.support.lanes_load import loaded, wait_for_lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.figures import Figures

N_LANES = 4
SOAK = os.environ.get("FASTUN_SOAK") == "1"


@pytest.fixture(scope="module")
def tunnel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tunnel]:
    lanes = ("--lanes", str(N_LANES))
    with Lab() as lab, pytest.MonkeyPatch.context() as patched:
        patched.setattr(lab_tunnel, "FASTUN", AT_ONCE)
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, ["10.0.1.1/24"], ["10.0.1.2/24"])
        pair = start_tunnel(
            server,
            client,
            "10.0.1.1",
            tmp_path_factory.mktemp("order-udp"),
            transport="udp",
            server_arguments=lanes,
            client_arguments=lanes,
        )
        pair.wait_up()
        yield pair


@pytest.mark.promise("A flow keeps its order over several lanes on UDP, also beside many others")
def test_numbered_flows_beside_many_transfers_keep_their_order_once_all_lanes_are_open(
    tunnel: Tunnel, figures: Figures
) -> None:
    server, client = tunnel.server, tunnel.client
    came: list[tuple[tuple[str, int], int]] = []
    with loaded(client.host, server.host, server.inner_address):
        for gateway in (client, server):
            wait_for_lanes(gateway, N_LANES)
    echo = echo_of(server.host, server.inner_address, came)
    flows = [
        Numbered(client.host, server.inner_address, echo.getsockname()[1])
        for _ in range(N_NUMBERED)
    ]
    load = threading.Thread(
        target=iperf3,
        args=(client.host, server.host, server.inner_address),
        kwargs={"duration_s": 60 if SOAK else 5, "n_streams": N_TCP},
    )
    load.start()
    while load.is_alive():
        for flow in flows:
            flow.send()
            flow.receive()
        time.sleep(PACE_S)
    wait_for_lanes(client, N_LANES)  # none has rested meanwhile
    for flow in flows:
        flow.receive()
    by_flow: dict[tuple[str, int], list[int]] = {}
    for source, number in came:
        by_flow.setdefault(source, []).append(number)
    n_wrong = sum(flow.n_out_of_order() for flow in flows)
    n_wrong_there = sum(map(out_of_order, by_flow.values()))
    figures.total("numbered packets that came back", sum(len(flow.came) for flow in flows))
    figures.total("of them out of order", n_wrong + n_wrong_there)
    assert len(by_flow) == N_NUMBERED
    assert all(len(flow.came) > flow.n_sent / 2 for flow in flows)
    assert (n_wrong_there, n_wrong) == (0, 0)
