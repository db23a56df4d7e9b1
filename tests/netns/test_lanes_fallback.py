"""Sides of several lanes, and a server that UDP and TCP lead to: the one takes over from the other.

See tests/conftest.py for the topology.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from tests.support.accounting import assert_adds_up
from tests.support.blocked_udp import block_udp
from tests.support.lanes_at_once import AT_ONCE
from tests.support.lanes_seen import n_connections
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from tests.conftest import StartTunnel

OF_SERVER = 4


@pytest.mark.parametrize("n_lanes", [1, 3])
def test_streams_in_all_lanes_take_over_from_udp_and_udp_from_them(
    tunnel: StartTunnel, monkeypatch: pytest.MonkeyPatch, n_lanes: int
) -> None:
    monkeypatch.setattr(lab_tunnel, "FASTUN", AT_ONCE)
    pair = tunnel(
        transport="both",
        server_arguments=("--lanes", str(OF_SERVER)),
        client_arguments=("--lanes", str(n_lanes)),
    )
    server, client, address = pair.server, pair.client, pair.server.inner_address
    wait_until(lambda: " transport=udp" in client.log_file.read_text(), "UDP")
    assert n_connections(client) == 0
    there = start_transfer(client.host, server.host, address, n_bytes=2 * 10**6)
    assert there.result(timeout=60).is_exact
    block_udp(server.host)

    def is_on_streams() -> bool:
        is_answered = answers_ping(client.host, address)  # what is sent is what shows the silence
        return is_answered and n_connections(client) == n_lanes

    wait_until(is_on_streams, "all streams", timeout_s=40)
    flows = [
        start_transfer(client.host, server.host, address, n_bytes=10**6, port=5400 + n)
        for n in range(6)
    ]
    assert all(flow.result(timeout=60).is_exact for flow in flows)
    server.host.run("nft", "delete", "table", "inet", "firewall")
    wait_until(lambda: n_connections(client) == 0, "UDP again", timeout_s=60)
    back = start_transfer(server.host, client.host, client.inner_address, n_bytes=2 * 10**6)
    assert back.result(timeout=60).is_exact
    assert_adds_up((server, client))
