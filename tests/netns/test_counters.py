"""The counters of what goes over the wire; see tests/conftest.py for the topology."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.known_at import add_known_peer
from tests.support.strict_client import StrictClient

if TYPE_CHECKING:
    from fastun.lab.host import Host
    from tests.conftest import StartTunnel
    from tests.support.figures import Figures

N_PACKETS = 4000
SEGMENT_BYTES, N_SEGMENTS = 1200, 40
UDP_SEGMENT = 103  # linux/udp.h


def send_singly(server: Host, to: str) -> int:
    """Packets that come one by one, as fast as they can be written; return how many."""
    with server.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(N_PACKETS):
            sender.sendto(bytes(number % 1200), (to, 9))
            if number % 64 == 0:
                time.sleep(0.002)  # so that no queue overflows
    return N_PACKETS


def send_super_packets(server: Host, to: str) -> int:
    """Packets that come as super-packets, and are split for this client."""
    with server.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT_BYTES)
        for _ in range(N_PACKETS // N_SEGMENTS):
            sender.sendto(bytes(SEGMENT_BYTES * N_SEGMENTS), (to, 9))
            time.sleep(0.001)
    return N_PACKETS // N_SEGMENTS * N_SEGMENTS


@pytest.mark.promise("A client that takes only the counter that is next gets everything")
def test_a_client_that_takes_only_the_counter_that_is_next_gets_everything(
    tunnel: StartTunnel, figures: Figures
) -> None:
    pair = tunnel(transport="udp")
    file = add_known_peer(pair.server, "strict", "10.0.0.1", "udp")
    with StrictClient(pair.client.host, file, "10.0.0.1") as client:
        for number in range(20):
            client.ping(pair.server.inner_address, number)
        for send in (send_singly, send_super_packets, send_singly):
            client.take_packets(send(pair.server.host, client.inner))
        for number in range(20):
            client.ping(pair.server.inner_address, number)
        figures.total("messages", client.n_taken)
        assert client.n_taken >= 3 * N_PACKETS + 40
