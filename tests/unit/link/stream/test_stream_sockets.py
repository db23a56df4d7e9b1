"""The sockets of stream links: what their packets are marked with."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address

import pytest

from fastun.host.sockets.address import EndpointAddress
from fastun.host.sockets.maker import OwnSockets
from fastun.link.stream import sockets


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_ADMIN, to mark packets")
@pytest.mark.parametrize("fwmark", [0, 7])
def test_what_is_accepted_carries_the_mark(fwmark: int) -> None:
    here = EndpointAddress(ip_address("127.0.0.1"), 0, 0)
    listener = sockets.listen(here, OwnSockets(fwmark))
    with listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            for ours in (listener, accepted):
                assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == fwmark
