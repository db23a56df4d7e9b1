"""The way into the office: a client reaches a server behind the gateway, through the tunnel.

client              internet            gateway               office
192.0.2.2 ==veth== .1 | 198.51.100.1 ==veth== .2 | 172.16.9.1 ==veth== 172.16.9.2
fd01::2             ::1  fd02::1        ::2      fd09::1       fd09::2
ft0 10.99.0.2  .................tunnel.......... ft0 10.99.0.1

The thirteen steps: the application writes (1), the client's stack routes into the TUN device (2),
fastun reads it (3), sends it (4) through the real network (5, 6), the gateway's fastun receives it
(7) and writes its TUN device (8), the gateway forwards (9, 10) to the office server (11), whose
answer takes the same way back (12, 13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.lab.traffic import iperf3, ping
from fastun.lab.tunnel import INTERFACE, Tunnel, start_tunnel
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

OFFICE = {4: "172.16.9.2", 6: "fd09::2"}


@pytest.fixture
def office(lab: Lab, tmp_path: Path) -> tuple[Tunnel, Host]:
    """The tunnel from client to gateway, and the office server behind it."""
    client, internet, gateway, server = (
        lab.host(name) for name in ("client", "internet", "gateway", "office")
    )
    lab.wire(client, internet, ["192.0.2.2/24", "fd01::2/64"], ["192.0.2.1/24", "fd01::1/64"])
    lab.wire(
        internet, gateway, ["198.51.100.1/24", "fd02::1/64"], ["198.51.100.2/24", "fd02::2/64"]
    )
    lab.wire(gateway, server, ["172.16.9.1/24", "fd09::1/64"], ["172.16.9.2/24", "fd09::2/64"])
    for host in (internet, gateway):
        host.sysctl("net.ipv4.ip_forward", 1)
        host.sysctl("net.ipv6.conf.all.forwarding", 1)
    for host, via in ((client, "192.0.2.1"), (gateway, "198.51.100.1"), (server, "172.16.9.1")):
        host.ip("route", "add", "default", "via", via)
    server.ip("-6", "route", "add", "default", "via", "fd09::1")

    pair = start_tunnel(gateway, client, "198.51.100.2", tmp_path, wire="plain")
    pair.wait_up()
    client.ip("route", "add", "172.16.9.0/24", "via", "10.99.0.1", "dev", INTERFACE)
    client.ip("-6", "route", "add", "fd09::/64", "via", "fd99::1", "dev", INTERFACE)
    return pair, server


@pytest.mark.parametrize("family", [4, 6])
def test_an_application_reaches_the_office_through_the_tunnel(
    office: tuple[Tunnel, Host], family: int
) -> None:
    pair, server = office
    client, address = pair.client.host, OFFICE[family]
    gateways = (pair.client, pair.server)
    before = [gateway.scrape() for gateway in gateways]  # with what came before the link

    assert ping(client, address, n=10).n_received == 10
    for reverse in (False, True):
        assert iperf3(client, server, address, duration_s=1, reverse=reverse).n_bytes > 0
    assert start_transfer(client, server, address, n_bytes=50 * 10**6).result(60).is_exact

    # It was the tunnel that carried it, and it lost nothing.
    after = [gateway.scrape() for gateway in gateways]
    for role in ("link-writer", "tun-writer"):
        grown = [s.total("fastun_bytes_total", role=role) for s in (before[0], after[0])]
        assert grown[1] - grown[0] > 10**6
    assert [scrape.dropped() for scrape in after] == [scrape.dropped() for scrape in before]
    for gateway in gateways:
        assert gateway.stop() == 0
