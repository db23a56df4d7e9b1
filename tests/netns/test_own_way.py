"""Our own packets never go into our own tunnel, whatever is routed to it, and wherever a peer goes.

client 192.0.2.2 ==veth== server 192.0.2.1, or as tests/support/unanswered.py draws it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import INTERFACE as FT0
from fastun.lab.tunnel import SERVER_ADDRESSES, add_peer, start_gateway
from fastun.session import keys
from tests.support.name_server import NameServer, resolv_conf
from tests.support.unanswered import INTERFACE, OUT_THERE, PEER, stop, way, with_addresses

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Transport
    from tests.support.unanswered import Connect

BOTH = "10.9.0.2/24, fd00:9::2/64"
HALVES = "AllowedIPs = 0.0.0.0/1, 128.0.0.0/1\n"


@pytest.mark.parametrize(
    ("own", "allowed"),
    [
        (BOTH, HALVES),
        (BOTH, "AllowedIPs = 198.51.100.0/24\n"),
        (BOTH, f"AllowedIPs = 10.7.0.0/16, {OUT_THERE}/32\n"),
        ("198.51.100.7/24", "AllowedIPs = 10.7.0.0/16\n"),  # the kernel's own route
    ],
)
def test_a_route_that_contains_the_server_leaves_our_own_packets_outside(
    client: Host, connect: Connect, own: str, allowed: str
) -> None:
    process = connect(with_addresses(own) + PEER + allowed)
    assert way(client, OUT_THERE) == "wg0"
    assert way(client, OUT_THERE, "mark", "51820") == "to-internet"
    assert way(client, "192.0.2.1") == "to-internet"
    stop(process)
    assert "51820" not in client.ip("rule")
    assert way(client, OUT_THERE) == "to-internet"


def test_the_longest_prefix_wins_also_beside_a_route_that_contains_the_server(
    client: Host, connect: Connect
) -> None:
    for network in ("198.51.0.0/16", "198.51.100.128/25"):
        client.ip("route", "add", network, "via", "192.0.2.1")
    process = connect(INTERFACE + PEER + "AllowedIPs = 198.51.100.0/24, 0.0.0.0/0\n")
    assert way(client, "198.51.100.9") == "wg0"
    assert way(client, "198.51.100.200") == "to-internet", "a longer one"
    assert way(client, "198.51.7.7") == "to-internet", "a shorter one, but longer than ours"
    assert way(client, "203.0.113.1") == "wg0"
    for there in (OUT_THERE, "203.0.113.1"):
        assert way(client, there, "mark", "51820") == "to-internet"
    stop(process)
    assert "51820" not in client.ip("rule")


# -- with a server that answers ---------------------------------------------------------------

NAME, DNS, MOVED = "vpn.example.net", "203.0.113.53", "172.20.0.1"
WIDE = "172.16.0.0/12"  # has the address that a peer will move to


def serve(server: Host, directory: Path, *more: str) -> GatewayProcess:
    gateway = start_gateway(
        server, directory, "serve", *more, wire="wireguard", addresses=SERVER_ADDRESSES
    )
    wait_until(lambda: server.listens(55555), "the server listens", timeout_s=15)
    return gateway


def connect_with(client: Host, file: Path, allowed: str) -> GatewayProcess:
    """Start a client that has a route to what is `allowed` besides."""
    text = file.read_text().replace("[interface]\n", "[interface]\ntable = 'auto'\n")
    file.write_text(text.replace("allowed_ips = [", f'allowed_ips = ["{allowed}", '))
    return start_gateway(client, file.parent, "connect", str(file), wire="wireguard")


def answers_inside(host: Host, address: str) -> bool:
    """Whether an address answers through the tunnel; there may be a way beside it."""
    if FT0 not in host.devices():
        return False
    return host.run("ping", "-qc1", "-W1", "-I", FT0, address, check=False).returncode == 0


@pytest.mark.parametrize(
    ("transport", "allowed"),
    [("udp", "172.20.0.0/24"), ("tcp", WIDE), ("udp", '0.0.0.0/1", "128.0.0.0/1')],
)
def test_a_server_inside_a_routed_network_is_reached(
    hosts: tuple[Host, Host], lab: Lab, tmp_path: Path, transport: Transport, allowed: str
) -> None:
    server, client = hosts
    lab.wire(server, client, ["192.0.2.1/24"], ["192.0.2.2/24"])
    client.ip("route", "add", "default", "via", "192.0.2.1")
    server.ip("address", "add", MOVED, "dev", "lo")
    there = serve(server, tmp_path)
    here = connect_with(client, add_peer(there, "client", MOVED, transport), allowed)
    wait_until(lambda: answers_inside(client, "10.99.0.1"), "the tunnel", timeout_s=15)
    assert way(client, MOVED) == FT0
    assert way(client, MOVED, "mark", "51820") == "to-server"
    assert here.stop() == there.stop() == 0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_server_whose_name_moves_into_a_routed_network_is_reached(
    hosts: tuple[Host, Host], lab: Lab, tmp_path: Path, transport: Transport
) -> None:
    server, client = hosts
    lab.wire(server, client, ["192.0.2.1/24"], ["192.0.2.2/24"])
    client.ip("route", "add", "default", "via", "192.0.2.1")
    for address in (DNS, MOVED):
        server.ip("address", "add", address, "dev", "lo")
    there = serve(server, tmp_path)
    with resolv_conf(client, DNS), NameServer(server, DNS, {NAME: ["203.0.113.77"]}) as dns:
        here = connect_with(client, add_peer(there, "client", NAME, transport), WIDE)
        wait_until(lambda: FT0 in client.devices(), "the device", timeout_s=15)
        wait_until(lambda: way(client, MOVED) == FT0, "the route")
        wait_until(lambda: dns.asked_by != [], "the first lookup")
        assert "fwmark" not in client.ip("rule")
        dns.hosts[NAME] = [MOVED]
        wait_until(lambda: answers_inside(client, "10.99.0.1"), "the tunnel", timeout_s=30)
        assert "fwmark" in client.ip("rule")
        assert here.stop() == there.stop() == 0
    assert "fwmark" not in client.ip("rule")


def site_file(directory: Path) -> Path:
    """Write a server's file with a site that has the wide network."""
    site = keys.format_key(keys.public_of(keys.generate_private()))
    config = directory / "site.toml"
    config.write_text(
        f"[interface]\ntable = 'auto'\n[[peer]]\nname = 'site'\npublic_key = '{site}'\n"
        f"allowed_ips = ['{WIDE}']\n"
    )
    return config


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_client_that_is_in_a_routed_network_from_the_start_is_served(
    hosts: tuple[Host, Host], lab: Lab, tmp_path: Path, transport: Transport
) -> None:
    server, client = hosts
    lab.wire(server, client, ["192.0.2.1/24"], ["192.0.2.3/24"])
    server.ip("route", "add", "default", "via", "192.0.2.3")
    there = serve(server, tmp_path, "-c", str(site_file(tmp_path)))
    file = add_peer(there, "client", "192.0.2.1", transport)
    assert way(server, "172.20.0.2") == FT0
    client.ip("address", "add", "172.20.0.2/32", "dev", "lo")
    client.ip("route", "replace", "192.0.2.0/24", "dev", "to-server", "src", "172.20.0.2")
    here = start_gateway(client, tmp_path, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_inside(client, "10.99.0.1"), "the tunnel", timeout_s=20)
    assert here.stop() == there.stop() == 0


def test_a_client_that_roams_into_a_routed_network_stays_connected(
    hosts: tuple[Host, Host], lab: Lab, tmp_path: Path
) -> None:
    server, client = hosts
    lab.wire(server, client, ["192.0.2.1/24"], ["192.0.2.2/24"])
    client.sysctl("net.ipv4.conf.all.promote_secondaries", 1)  # .3 outlives .2
    client.ip("address", "add", "192.0.2.3/24", "dev", "to-server")
    server.ip("route", "add", "default", "via", "192.0.2.3")
    there = serve(server, tmp_path, "-c", str(site_file(tmp_path)))
    file = add_peer(there, "client", "192.0.2.1", "udp")
    here = start_gateway(client, tmp_path, "connect", str(file), wire="wireguard")
    wait_until(lambda: answers_inside(client, "10.99.0.1"), "the tunnel", timeout_s=15)
    assert way(server, "172.20.0.2") == FT0
    client.ip("address", "add", "172.20.0.2/32", "dev", "lo")
    client.ip("address", "del", "192.0.2.2/24", "dev", "to-server")
    client.ip("route", "replace", "192.0.2.0/24", "dev", "to-server", "src", "172.20.0.2")
    client.spawn("ping", "-n", "-q", "-i", "0.2", "10.99.0.1")
    wait_until(lambda: "fwmark" in server.ip("rule"), "the rules")
    wait_until(lambda: answers_inside(server, "10.99.0.2"), "the tunnel")
    assert here.stop() == there.stop() == 0
