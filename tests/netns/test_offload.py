"""What our own kernel leaves to a device that is not sent as it is; see tests/conftest.py."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import LabError
from fastun.lab.tunnel import INTERFACE
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from fastun.lab.tunnel import GatewayProcess, Transport, Tunnel
    from tests.conftest import StartTunnel

TRANSPORTS = ["tcp", "udp"]
UDP_SEGMENT = 103  # linux/udp.h
SEGMENT_BYTES = 400
N_SEGMENTS = 100
VXLAN_PORT = 4789


def bad_headers(gateway: GatewayProcess) -> float:
    return gateway.scrape().total("fastun_dropped_packets_total", reason="bad_virtio")


def add_vxlan(gateway: GatewayProcess, other: GatewayProcess, address: str) -> None:
    try:
        gateway.host.ip(
            *("link", "add", "vxlan0", "type", "vxlan", "id", "5", "dstport", str(VXLAN_PORT)),
            *("local", gateway.inner_address, "remote", other.inner_address),
        )
    except LabError as error:
        if "Unknown device type" in str(error) or "not supported" in str(error):
            pytest.skip("VXLAN over a tunnel needs CONFIG_VXLAN")
        raise
    gateway.host.ip("address", "add", address, "dev", "vxlan0")
    gateway.host.ip("link", "set", "vxlan0", "up")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_vxlan_over_the_tunnel_carries_a_connection(tunnel: StartTunnel, transport: str) -> None:
    pair = tunnel(transport=transport)
    add_vxlan(pair.client, pair.server, "10.77.0.1/24")
    add_vxlan(pair.server, pair.client, "10.77.0.2/24")
    transfer = start_transfer(pair.client.host, pair.server.host, "10.77.0.2", n_bytes=10**7)
    assert transfer.result(timeout=60).is_exact
    assert bad_headers(pair.client) == bad_headers(pair.server) == 0


def amplifying(gateway: GatewayProcess) -> float:
    return gateway.scrape().total("fastun_dropped_packets_total", reason="amplifies")


def send_short_datagrams(pair: Tunnel, segment_bytes: int) -> bytes:
    """Send 64 datagrams in one call; return what arrived, in order."""
    address = (pair.server.inner_address, 5311)
    with (
        pair.server.host.socket(kind=socket.SOCK_DGRAM) as receiver,
        pair.client.host.socket(kind=socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(address)
        receiver.settimeout(5)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment_bytes)
        sender.sendto(bytes(i % 251 for i in range(64 * segment_bytes)), address)
        return b"".join(receiver.recv(2 * segment_bytes) for _ in range(64))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_segments_too_short_to_go_whole_arrive_one_by_one(
    tunnel: StartTunnel, transport: Transport
) -> None:
    """The receiver would refuse them as a super-packet, and the sender knows it."""
    pair = tunnel(transport=transport)
    for segment_bytes in (1, 20, 150):
        expected = bytes(i % 251 for i in range(64 * segment_bytes))
        assert send_short_datagrams(pair, segment_bytes) == expected
    pair.client.host.ip("route", "add", "10.99.0.1", "dev", INTERFACE, "advmss", "88")
    pair.server.host.ip("route", "add", "10.99.0.2", "dev", INTERFACE, "advmss", "88")
    transfer = start_transfer(
        pair.client.host, pair.server.host, pair.server.inner_address, n_bytes=2 * 10**6
    )
    assert transfer.result(timeout=60).is_exact
    for gateway in (pair.client, pair.server):
        assert bad_headers(gateway) == amplifying(gateway) == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_more_udp_segments_than_older_kernels_take_arrive(
    tunnel: StartTunnel, transport: str
) -> None:
    pair = tunnel(transport=transport)
    address = (pair.server.inner_address, 5310)
    payload = bytes(i % 251 for i in range(N_SEGMENTS * SEGMENT_BYTES))
    with (
        pair.server.host.socket(kind=socket.SOCK_DGRAM) as receiver,
        pair.client.host.socket(kind=socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(address)
        receiver.settimeout(5)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT_BYTES)
        try:
            sender.sendto(payload, address)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            pytest.skip(f"needs a kernel that sends {N_SEGMENTS} segments at once (Linux 6.9)")
        arrived = [receiver.recv(2 * SEGMENT_BYTES) for _ in range(N_SEGMENTS)]
    assert b"".join(arrived) == payload
    assert bad_headers(pair.client) == bad_headers(pair.server) == 0
