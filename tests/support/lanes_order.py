"""Four lanes at both ends of a tunnel, and whether flows keep their order over them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.network import Lab
from fastun.lab.traffic import iperf3
from fastun.lab.tunnel import Transport, Tunnel, start_tunnel
from tests.support.lanes_at_once import AT_ONCE
from tests.support.numbered import Numbered, echo_of, out_of_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.figures import Figures

N_LANES: Final = 4
N_NUMBERED: Final = 16
PACE_S: Final = 0.005
_N_TCP = 32
_SOAK_S = 60


@contextlib.contextmanager
def four_lanes(directory: Path, transport: Transport) -> Iterator[Tunnel]:
    """Start a tunnel of four lanes at both ends, and end it."""
    lanes = ("--lanes", str(N_LANES))
    with Lab() as lab, pytest.MonkeyPatch.context() as patched:
        patched.setattr(lab_tunnel, "FASTUN", AT_ONCE)
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, ["10.0.1.1/24"], ["10.0.1.2/24"])
        pair = start_tunnel(
            server,
            client,
            "10.0.1.1",
            directory,
            transport=transport,
            server_arguments=lanes,
            client_arguments=lanes,
        )
        pair.wait_up()
        yield pair


def check_order(tunnel: Tunnel, figures: Figures, seconds: float) -> None:
    """Have numbered flows and their echoes in order, beside many transfers; a minute in soak."""
    server, client = tunnel.server, tunnel.client
    came: list[tuple[tuple[str, int], int]] = []
    echo = echo_of(server.host, server.inner_address, came)
    port = echo.getsockname()[1]
    flows = [Numbered(client.host, server.inner_address, port) for _ in range(N_NUMBERED)]
    is_soak = os.environ.get("FASTUN_SOAK") == "1"
    load = threading.Thread(
        target=iperf3,
        args=(client.host, server.host, server.inner_address),
        kwargs={"duration_s": _SOAK_S if is_soak else seconds, "n_streams": _N_TCP},
    )
    load.start()
    while load.is_alive():
        for flow in flows:
            flow.send()
            flow.receive()
        time.sleep(PACE_S)
    time.sleep(0.5)
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
