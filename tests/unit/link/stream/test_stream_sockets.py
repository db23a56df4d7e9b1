"""Stream links: who counts as one source, and what our packets are marked with."""

from __future__ import annotations

import os
import socket

import pytest

from fastun.endpoint import Endpoint
from fastun.link.stream import sockets as tcp


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%lo", "fe80::2%lo", True),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_slash_64(
    one: str, other: str, is_same: bool
) -> None:
    assert (tcp.source_of(one) == tcp.source_of(other)) is is_same


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_ADMIN, to mark packets")
@pytest.mark.parametrize("fwmark", [0, 7])
def test_what_is_accepted_carries_the_mark(fwmark: int) -> None:
    (listener,) = tcp.listen(Endpoint("tcp", "127.0.0.1", 0), fwmark)
    with listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            for ours in (listener, accepted):
                assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == fwmark
