"""The gateway's side of UDP sockets, on loopback."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from fastun.link import binding
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.names import EndpointAddress
from fastun.native import UdpAddress


@pytest.mark.parametrize(
    ("family", "host", "gone"),
    [
        pytest.param(socket.AF_INET, "127.0.0.1", "192.0.2.1", id="v4"),
        pytest.param(socket.AF_INET6, "127.0.0.1", "192.0.2.1", id="v4-on-v6"),
        pytest.param(socket.AF_INET6, "::1", "2001:db8::1", id="v6"),
    ],
)
def test_a_handshake_goes_out_though_the_address_that_the_peer_knew_has_gone(
    family: socket.AddressFamily, host: str, gone: str
) -> None:
    if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    peer_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(peer_family, socket.SOCK_DGRAM) as peer:
        peer.bind((host, 0))
        peer.settimeout(2)
        anywhere = ip_address("::" if family == socket.AF_INET6 else "0.0.0.0")  # noqa: S104
        bound = binding.bound(EndpointAddress(anywhere, 0, 0), socket.SOCK_DGRAM)
        sockets = UdpSockets([bound], offload=False)
        port = peer.getsockname()[1]
        sockets.send(b"initiation", UdpAddress(ip_address(host), port, local=ip_address(gone)))
        message, source = peer.recvfrom(64)
        assert (message, source[0]) == (b"initiation", host)
        sockets.close()
