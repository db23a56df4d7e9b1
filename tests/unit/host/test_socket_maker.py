"""The sockets of a gateway: each is made with what it needs, and keeps it without any privilege."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.host.sockets import maker as socket_maker
from fastun.host.sockets.address import EndpointAddress
from fastun.host.sockets.maker import OwnSockets

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = 7
HERE = EndpointAddress(ip_address("127.0.0.1"), 0, 0)
SO_DETACH_FILTER, SO_SNDBUFFORCE, SO_RCVBUFFORCE = 27, 32, 33

MARKED: dict[str, Callable[[OwnSockets], socket.socket]] = {
    "a listener": lambda made: made.listener(HERE),
    "datagrams": lambda made: made.datagrams(HERE),
    "outgoing TCP": lambda made: made.outgoing(socket.AF_INET, socket.SOCK_STREAM),
    "outgoing UDP of IPv6": lambda made: made.outgoing(socket.AF_INET6, socket.SOCK_DGRAM),
}


def mark_of(each: socket.socket) -> int:
    return each.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)


@pytest.mark.parametrize("kind", MARKED)
@pytest.mark.parametrize("mark", [0, MARK])
def test_our_own_packets_have_the_mark(kind: str, mark: int) -> None:
    with MARKED[kind](OwnSockets(mark)) as made:
        assert mark_of(made) == mark
        assert not made.getblocking()


def test_the_metrics_have_none() -> None:
    with OwnSockets(MARK).listener(HERE, "metrics") as made:
        assert mark_of(made) == 0


def test_a_bound_socket_has_its_address() -> None:
    made = OwnSockets(MARK)
    with made.listener(HERE) as stream, made.datagrams(HERE) as datagrams:
        assert stream.getsockname()[0] == datagrams.getsockname()[0] == "127.0.0.1"
        with pytest.raises(OSError, match="in use"):
            made.datagrams(HERE._replace(port=datagrams.getsockname()[1]))


def test_buffers_are_as_large_as_wanted_or_as_the_administrator_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def buffers() -> tuple[int, int]:
        with OwnSockets().datagrams(HERE) as made:
            sizes = (socket.SO_SNDBUF, socket.SO_RCVBUF)
            send, receive = (made.getsockopt(socket.SOL_SOCKET, each) for each in sizes)
            return send, receive

    files = [Path("/proc/sys/net/core", each) for each in ("wmem_max", "rmem_max")]
    limits = [int(file.read_text()) for file in files]
    monkeypatch.setattr(socket_maker, "DATAGRAM_BUFFER_BYTES", wanted := 2 * max(limits))
    # The kernel counts its own part as well.
    assert buffers() == (2 * wanted, 2 * wanted)
    # An option that no kernel has is refused like one that takes a capability.
    monkeypatch.setattr(socket_maker, "_SO_SNDBUFFORCE", 9999)
    monkeypatch.setattr(socket_maker, "_SO_RCVBUFFORCE", 9999)
    assert buffers() == tuple(2 * each for each in limits)


def test_the_filter_of_a_raw_socket_stays() -> None:
    with OwnSockets().icmp("hints", socket.AF_INET, [51820]) as made:
        with pytest.raises(OSError, match="not permitted") as refusal:
            made.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        assert refusal.value.errno == errno.EPERM


def test_a_channel_holds_a_burst_of_handshakes() -> None:
    ours, theirs = OwnSockets().channel()
    with ours, theirs:
        ours.setblocking(False)
        for _ in range(512):
            ours.send(bytes(200))
        assert len(theirs.recv(300)) == 200
