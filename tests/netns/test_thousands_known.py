"""5,000 peers in the directory: any 1,024 of them at once, wave after wave.

client host, 10.1.0.0/16 all its own          server host
a socket for each client  ======= wire =====  fastun serve, 5,000 peers known
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import add_peer, start_gateway
from fastun.native import PEER_SLOTS
from tests.support.known_peers import START_S, Server

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import Transport

N_PEERS = 5000
ADD_S = 5.0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_client_among_5000_known_peers_is_served(
    lab: Lab, tmp_path: Path, transport: Transport
) -> None:
    server = Server(lab, tmp_path, N_PEERS)
    begun = time.monotonic()
    file = add_peer(server.gateway, "laptop", "10.0.0.1", transport)
    assert time.monotonic() - begun < ADD_S
    client = start_gateway(server.client, tmp_path, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_ping(server.client, "10.200.255.1"), "a link", timeout_s=START_S)
    metrics = server.metrics()
    assert 'fastun_peer_up{peer="laptop"} 1.0' in metrics
    assert 'fastun_peer_up{peer="client7"} 0.0' in metrics
    # For one that is not here: dropped, and not sent to another peer.
    assert not answers_ping(server.client, "10.200.0.8")
    assert client.stop() == 0
    assert server.gateway.stop(timeout_s=10) == 0


@pytest.mark.soak
def test_any_1024_of_5000_known_peers_connect_wave_after_wave(lab: Lab, tmp_path: Path) -> None:
    server = Server(lab, tmp_path, N_PEERS)
    server.wave(3000, PEER_SLOTS, 40)
    wait_until(lambda: server.n_up() == PEER_SLOTS, "all links")
    assert not server.connect(0)
    metrics = server.metrics()
    assert 'fastun_peer_up{peer="client0"} 0.0' in metrics
    assert 'fastun_handshakes_total{result="no_slot"} 0.0' not in metrics
    # The next wave finds room when this one has gone.
    server.end_all()
    server.wave(0, 600, 30)
    wait_until(lambda: server.n_up() == 600, "all links")
    metrics = server.metrics()
    for n in (0, 599, 600, 3000, 4999):
        assert f'fastun_peer_up{{peer="client{n}"}} {float(n < 600)}' in metrics
    server.end_all()
    assert server.gateway.stop(timeout_s=10) == 0
