"""One host with all the addresses of an IPv6 /64 keeps no other client out.

client 2001:db8::/64 (all of it)  ==== veth ====  server (fastun serve)
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from fastun.lab.tunnel import PORT, SERVER_ADDRESSES, start_gateway
from fastun.link.stream.arrivals import ARRIVALS_MAX, ARRIVALS_PER_SOURCE_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab

_SERVER = "2001:db8:1::1"
_NETWORK = "2001:db8::"


def is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def test_who_has_a_whole_ipv6_network_is_one_source(lab: Lab, tmp_path: Path) -> None:
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, [f"{_SERVER}/64"], ["2001:db8:1::2/64"])
    client.sysctl("net.ipv6.ip_nonlocal_bind", 1)
    client.ip("route", "add", "local", f"{_NETWORK}/64", "dev", "lo")
    server.ip("route", "add", f"{_NETWORK}/64", "via", "2001:db8:1::2")
    gateway = start_gateway(server, tmp_path, "serve", wire="wireguard", addresses=SERVER_ADDRESSES)
    wait_until(lambda: server.listens(PORT), "fastun listens", timeout_s=15)

    def dial(source: str) -> socket.socket:
        connection = socket.create_connection((_SERVER, PORT), 5, (source, 0))
        connection.setblocking(False)
        return connection

    with contextlib.ExitStack() as stack:
        honest = stack.enter_context(client.inside(lambda: dial("2001:db8:1::2")))
        sources = [f"{_NETWORK}{n:x}" for n in range(1, ARRIVALS_MAX + 50)]
        crowd = client.inside(lambda: [stack.enter_context(dial(source)) for source in sources])

        def rest_is_closed() -> bool:
            return sum(map(is_open, crowd)) <= ARRIVALS_PER_SOURCE_MAX

        wait_until(rest_is_closed, "all but so many of one source are let go")
        assert is_open(honest)
    assert gateway.stop() == 0
