"""What a server pushes, on a client whose file says nothing itself.

client 10.1.0.2 ==veth== 10.1.0.1 server
ft0 10.99.0.2 .....tunnel..... ft0 10.99.0.1
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import (
    INTERFACE,
    SERVER_ADDRESSES,
    GatewayProcess,
    add_peer,
    start_gateway,
)

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import Transport

SERVER_INNER, SERVER_INNER_V6 = "10.99.0.1", "fd99::1"


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, ["10.1.0.1/24"], ["10.1.0.2/24"])
    return server, client


def start(
    hosts: tuple[Host, Host], directory: Path, transport: Transport, *serving: str
) -> tuple[GatewayProcess, GatewayProcess]:
    """Start a server, and a client that takes its address from it."""
    server = start_gateway(
        hosts[0], directory, "serve", *serving, wire="wireguard", addresses=SERVER_ADDRESSES
    )
    wait_until(lambda: hosts[0].listens(55555), "the server listens", timeout_s=15)
    file = add_peer(server, "client", "10.1.0.1", transport)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("address")))
    return server, start_gateway(hosts[1], directory, "connect", str(file), wire="wireguard")


def test_an_address_that_another_interface_has_is_left_to_it(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    host = hosts[1]
    host.ip("address", "add", "10.99.0.2/32", "dev", "to-server")
    _, client = start(hosts, tmp_path, "udp")
    wait_until(lambda: answers_ping(host, SERVER_INNER_V6), "the pushed address", timeout_s=20)
    assert "10.99.0.2" not in host.ip("address", "show", "dev", INTERFACE)
    (said,) = (line for line in client.log_tail(40) if "another interface of this host" in line)
    assert "10.99.0.2/24" in said
