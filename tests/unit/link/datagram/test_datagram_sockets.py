"""The gateway's side of UDP sockets, on loopback."""

from __future__ import annotations

import asyncio
import errno
import socket
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from fastun.host.sockets import binding
from fastun.host.sockets.address import EndpointAddress
from fastun.lane.endpoint_messages import SetEndpoint
from fastun.lane.messages import AddSocket, RemoveSocket, SendKeepalive
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.socket_passing import SocketPassing
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.peer_slots import SlottedPeer
from fastun.native import UdpAddress
from fastun.peers.peer import Peer
from fastun.session.timer_constants import TimerConstants
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastun.lane.messages import ToWorker
    from fastun.link.local_end import LocalEnd
    from fastun.link.table import Link


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


def test_a_socket_that_is_removed_leaves_its_index_to_the_next() -> None:
    first, second, third = (
        binding.bound(EndpointAddress(ip_address("127.0.0.1"), 0, 0), socket.SOCK_DGRAM)
        for _ in range(3)
    )
    sockets = UdpSockets([first, second], offload=False)
    to = sockets.address_of(ip_address("127.0.0.9"), 9, by=0)
    assert sockets.remove(first) == 0
    first.close()
    assert sockets.all() == [second]
    assert sockets.port_of(0) == 0
    with pytest.raises(OSError, match="closed"):
        sockets.send(b"initiation", to)
    for by in (None, 0):
        assert sockets.address_of(ip_address("127.0.0.9"), 9, by=by).socket_index == 1
    assert sockets.add(third) == 0
    assert sockets.of_port(third.getsockname()[1]) == 0
    sockets.close()


def test_peers_of_a_removed_socket_are_reached_by_another_and_hear_of_it() -> None:
    lane = RecordingLane()
    lane.peers = SimpleNamespace(read=lambda *_: 0, endpoint=lambda _: None)
    bounds = [
        binding.bound(EndpointAddress(ip_address("127.0.0.1"), 0, 0), socket.SOCK_DGRAM)
        for _ in range(2)
    ]
    sockets = UdpSockets(bounds, offload=False)
    slotted = [SlottedPeer(n, Peer(name=f"peer{n}", public_key=bytes([n] * 32))) for n in range(2)]
    links = SimpleNamespace(by_slot={})
    end = SimpleNamespace(
        lane=lane,
        links=links,
        exchange=SimpleNamespace(peer_slots=None),
        constants=TimerConstants(),
        outside=SimpleNamespace(inside=None),
    )
    peers = UdpPeers(cast("LocalEnd", end), sockets)
    for n in range(2):
        udp_peer = peers.at(slotted[n])
        udp_peer.address = UdpAddress(ip_address("127.0.0.9"), 9, n)
        udp_peer.link = links.by_slot[n] = cast("Link", SimpleNamespace())
    lane.take()
    changes: list[int] = []
    passing = SocketPassing(lane.as_lane(), sockets, peers, lambda: changes.append(1))
    asyncio.run(passing.leave(bounds[:1]))
    moved = UdpAddress(ip_address("127.0.0.9"), 9, 1)
    assert lane.take() == [
        ("link-reader", SetEndpoint(0, moved.pack())),
        ("tun-reader", SendKeepalive(0)),
        ("tun-reader", RemoveSocket(0)),
        ("link-reader", RemoveSocket(0)),
        ("link-writer", RemoveSocket(0)),
    ]
    assert changes == [1, 1], "before it is closed, and when it is"
    for each in bounds:
        each.close()


def test_a_socket_that_not_all_workers_can_be_given_is_used_by_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane = RecordingLane()
    sockets = UdpSockets([], offload=False)
    peers = cast("UdpPeers", SimpleNamespace(leave_socket=lambda _: []))
    passing = SocketPassing(lane.as_lane(), sockets, peers, lambda: None)
    pass_socket = lane.pass_socket

    def refuse(role: str, message: ToWorker, fds: Sequence[int]) -> None:
        if role == "link-writer":
            raise OSError(errno.EMFILE, "too many open files")
        pass_socket(role, message, fds)

    monkeypatch.setattr(lane, "pass_socket", refuse)
    address = EndpointAddress(ip_address("127.0.0.1"), 0, 0)
    with binding.bound(address, socket.SOCK_DGRAM) as bound:
        with pytest.raises(OSError, match="too many open files"):
            passing.add(bound)
        assert sockets.all() == []
    assert [(role, type(message)) for role, message in lane.take()] == [
        ("tun-reader", AddSocket),
        ("link-reader", AddSocket),
        ("tun-reader", RemoveSocket),
        ("link-reader", RemoveSocket),
        ("link-writer", RemoveSocket),
    ]
