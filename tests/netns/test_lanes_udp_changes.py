"""Several lanes on UDP, and TCP beside it: the one takes over from the other under load.

See tests/conftest.py for the topology.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from tests.support.accounting import assert_adds_up
from tests.support.lanes_at_once import AT_ONCE
from tests.support.lanes_load import loaded, wait_for_lanes
from tests.support.lanes_seen import block_udp, n_connections
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from tests.conftest import StartTunnel

N_LANES = 4
LANES = ("--lanes", str(N_LANES))

# With one lane it takes three seconds and a half (fastun/link/preference.py), and what was lost is
# sent again when TCP inside thinks it is time.
LIMIT_S = 15


def test_streams_take_over_from_several_lanes_under_load_and_these_from_them(
    tunnel: StartTunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_tunnel, "FASTUN", AT_ONCE)
    pair = tunnel(transport="both", server_arguments=LANES, client_arguments=LANES)
    server, client, address = pair.server, pair.client, pair.server.inner_address
    for _ in range(2):
        with loaded(client.host, server.host, address):
            for gateway in (client, server):
                wait_for_lanes(gateway, N_LANES, timeout_s=60)
            assert n_connections(client) == 0
            there = start_transfer(client.host, server.host, address, n_bytes=3 * 10**7)
            block_udp(server.host)
            wait_until(lambda: n_connections(client) == N_LANES, "streams", timeout_s=LIMIT_S)
            assert there.result(timeout=60).is_exact
        server.host.run("nft", "delete", "table", "inet", "firewall")
        wait_until(lambda: n_connections(client) == 0, "UDP again", timeout_s=60)
        wait_until(lambda: answers_ping(client.host, address), "an answer", timeout_s=10)
    back = start_transfer(server.host, client.host, client.inner_address, n_bytes=2 * 10**6)
    assert back.result(timeout=60).is_exact
    assert_adds_up((server, client))
