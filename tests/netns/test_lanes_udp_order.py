"""Four lanes at both ends of a tunnel on UDP: a flow keeps to one of them, and its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.lanes_load import loaded, wait_for_lanes
from tests.support.lanes_order import N_LANES, check_order, four_lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.tunnel import Tunnel
    from tests.support.figures import Figures


@pytest.fixture(scope="module")
def tunnel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tunnel]:
    with four_lanes(tmp_path_factory.mktemp("order-udp"), "udp") as pair:
        yield pair


@pytest.mark.promise("A flow keeps its order over several lanes on UDP, also beside many others")
def test_numbered_flows_beside_many_transfers_keep_their_order_once_all_lanes_are_open(
    tunnel: Tunnel, figures: Figures
) -> None:
    server, client = tunnel.server, tunnel.client
    with loaded(client.host, server.host, server.inner_address):
        for gateway in (client, server):
            wait_for_lanes(gateway, N_LANES)
    check_order(tunnel, figures, seconds=5)
    wait_for_lanes(client, N_LANES)  # none has rested meanwhile
