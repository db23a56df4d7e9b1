"""A host with two uplinks changes from one to the other: its tunnel on UDP goes along.

client 10.1.0.2 ==one== router 10.1.0.1          10.3.0.1 ==three== 10.3.0.2 server
       10.2.0.2 ==two== router 10.2.0.1          10.4.0.1 ==four=== 10.4.0.2
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from fastun.lab.tunnel import CLIENT_ADDRESSES, SERVER_ADDRESSES, UDP_PORT
from tests.support.serve_and_dial import dial, serve
from tests.support.transfer import probing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess

USUAL_S = 3.0  # noticed by the change of routes
FILTERED_S = 15.0  # noticed by silence, and by the second response without an answer


@dataclass
class Site:
    """Two hosts with two uplinks each, and the tunnel between them."""

    client: Host
    router: Host
    server: Host
    gateways: list[GatewayProcess] = field(default_factory=list)

    def start(self, directory: Path) -> None:
        there = serve(self.server, directory, f"udp://0.0.0.0:{UDP_PORT}")
        tunnel = dial(there, self.client, directory, "10.3.0.2")
        self.gateways += [tunnel.client, there]
        tunnel.wait_up()


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    made = Site(*(lab.host(name) for name in ("client", "router", "server")))
    router = made.router
    router.sysctl("net.ipv4.ip_forward", 1)
    ends = (
        (made.client, "one"),
        (made.client, "two"),
        (made.server, "three"),
        (made.server, "four"),
    )
    for n, (host, device) in enumerate(ends, 1):
        lab.wire(host, router, [f"10.{n}.0.2/24"], [f"10.{n}.0.1/24"])
        for end, other in ((host, router), (router, host)):
            end.ip("link", "set", f"to-{other.name}", "down")
            end.ip("link", "set", f"to-{other.name}", "name", device)
            end.ip("link", "set", device, "up")
        # As providers do it: a source that is not the customer's does not get in.
        router.sysctl(f"net.ipv4.conf.{device}.rp_filter", 1)
    made.client.ip("route", "replace", "default", "via", "10.1.0.1")
    made.server.ip("route", "replace", "default", "via", "10.3.0.1")
    yield made
    for gateway in made.gateways:
        assert gateway.stop() == 0


def outage_s(site: Site, *changes: tuple[Host, str]) -> float:
    """Return how long nothing is answered, of what either side sends, after these changes."""
    ours, theirs = (
        addresses[0].partition("/")[0] for addresses in (CLIENT_ADDRESSES, SERVER_ADDRESSES)
    )
    with (
        probing(site.client, site.server, theirs, 5302) as there,
        probing(site.server, site.client, ours, 5303) as back,
        ThreadPoolExecutor() as threads,
    ):
        time.sleep(1)  # the session is in use, both ways
        for host, command in changes:
            host.ip(*command.split())
        waits = [threads.submit(probe.seconds_until_answer, 40) for probe in (there, back)]
        return max(wait.result() for wait in waits)


@pytest.mark.soak
def test_a_source_that_a_provider_comes_to_filter_is_left_though_no_route_changes(
    site: Site, tmp_path: Path
) -> None:
    """The server is asked by one uplink and answers by the other, from the first one's address."""
    site.router.sysctl("net.ipv4.conf.four.rp_filter", 0)
    site.server.ip("route", "replace", "default", "via", "10.4.0.1")
    site.start(tmp_path)
    assert outage_s(site) < 1
    site.router.sysctl("net.ipv4.conf.four.rp_filter", 1)
    lasted_s = outage_s(site)
    print(f"outage {lasted_s:.2f} s")  # noqa: T201
    assert lasted_s < FILTERED_S


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_tunnel_goes_along_to_a_hosts_other_uplink_and_back(
    site: Site, tmp_path: Path, role: str
) -> None:
    site.start(tmp_path)
    host, second, first_gateway, second_gateway = {
        "client": (site.client, "two", "10.1.0.1", "10.2.0.1"),
        "server": (site.server, "four", "10.3.0.1", "10.4.0.1"),
    }[role]
    # First the old link and its address are still there, then the link is cut.
    there_s = outage_s(site, (host, f"route replace default via {second_gateway}"))
    back_s = outage_s(
        site,
        (site.router, f"link set {second} down"),
        (host, f"route replace default via {first_gateway}"),
    )
    print(f"{role}: outages {there_s:.2f} s, {back_s:.2f} s")  # noqa: T201
    assert max(there_s, back_s) < USUAL_S
