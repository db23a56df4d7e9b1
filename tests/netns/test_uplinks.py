"""A host with two uplinks changes from one to the other: its tunnel on UDP goes along.

client 10.1.0.2 ==one== router 10.1.0.1          10.3.0.1 ==three== 10.3.0.2 server
       10.2.0.2 ==two== router 10.2.0.1          10.4.0.1 ==four=== 10.4.0.2
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fastun.lab.tunnel import (
    CLIENT_ADDRESSES,
    SERVER_ADDRESSES,
    UDP_PORT,
    Tunnel,
    add_peer,
    start_gateway,
)
from tests.support.transfer import probing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess

OUTAGE_MAX_S = 15.0
USUAL_S = 3.0  # noticed by the change of routes


@dataclass
class Site:
    """A tunnel between two hosts with two uplinks each."""

    router: Host
    pair: Tunnel

    def host(self, role: str) -> Host:
        return getattr(self.pair, role).host

    def gateway(self, role: str) -> GatewayProcess:
        return getattr(self.pair, role)


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[Site]:
    client, router, server = lab.host("client"), lab.host("router"), lab.host("server")
    router.sysctl("net.ipv4.ip_forward", 1)
    for n, (host, device) in enumerate(
        ((client, "one"), (client, "two"), (server, "three"), (server, "four")), 1
    ):
        lab.wire(host, router, [f"10.{n}.0.2/24"], [f"10.{n}.0.1/24"])
        host.ip("link", "set", f"to-{router.name}", "down")
        host.ip("link", "set", f"to-{router.name}", "name", device)
        host.ip("link", "set", device, "up")
        router.ip("link", "set", f"to-{host.name}", "down")
        router.ip("link", "set", f"to-{host.name}", "name", device)
        router.ip("link", "set", device, "up")
        # As providers do it: a source that is not the customer's does not get in.
        router.sysctl(f"net.ipv4.conf.{device}.rp_filter", 1)
    client.ip("route", "replace", "default", "via", "10.1.0.1")
    server.ip("route", "replace", "default", "via", "10.3.0.1")
    listen = ("--listen", f"udp://0.0.0.0:{UDP_PORT}")
    serving = start_gateway(
        server, tmp_path, "serve", *listen, wire="wireguard", addresses=SERVER_ADDRESSES
    )
    file = add_peer(serving, "client", "10.3.0.2", "udp")
    dialling = start_gateway(client, tmp_path, "connect", str(file), wire="wireguard")
    dialling.addresses = CLIENT_ADDRESSES
    pair = Tunnel(serving, dialling)
    pair.wait_up()
    yield Site(router, pair)
    assert pair.client.stop() == 0
    assert pair.server.stop() == 0


def outage_s(site: Site, *changes: tuple[Host, str]) -> float:
    """Return how long nothing is answered, of what either side sends, after these changes."""
    client, server = site.pair.client, site.pair.server
    with (
        probing(client.host, server.host, server.inner_address, 5302) as there,
        probing(server.host, client.host, client.inner_address, 5303) as back,
        ThreadPoolExecutor() as threads,
    ):
        time.sleep(1)  # the session is in use, both ways
        for host, command in changes:
            host.ip(*command.split())
        waits = [threads.submit(probe.seconds_until_answer, 40) for probe in (there, back)]
        return max(wait.result() for wait in waits)


@pytest.mark.parametrize("old_link", ["up", "down"])
@pytest.mark.parametrize("role", ["client", "server"])
def test_the_tunnel_goes_along_when_a_hosts_route_changes_to_its_other_uplink(
    site: Site, role: str, old_link: str
) -> None:
    host, device, gateway = {
        "client": (site.pair.client.host, "one", "10.2.0.1"),
        "server": (site.pair.server.host, "three", "10.4.0.1"),
    }[role]
    lasted_s = outage_s(
        site,
        (site.router, f"link set {device} {old_link}"),
        (host, f"route replace default via {gateway}"),
    )
    print(f"{role}, old link {old_link}: outage {lasted_s:.2f} s")  # noqa: T201
    assert lasted_s < USUAL_S
