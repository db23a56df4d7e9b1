"""One of a server's addresses, or one of its sockets, leads nowhere: the tunnel takes the other."""

from __future__ import annotations

import socket
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from fastun.host.routing.route_lookup import RouteLookup
from fastun.host.sockets import binding
from fastun.host.sockets.address import EndpointAddress
from fastun.lab.host import wait_until
from fastun.lab.tunnel import UDP_PORT
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.inside import Inside
from tests.support.name_server import NameServer
from tests.support.serve_and_dial import DNS, NAME, dial, log_of, serve, wired_with_dns
from tests.support.transfer import probing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.native import UdpAddress

SERVER_V4, CLIENT_V4 = "192.0.2.1", "192.0.2.2"
SERVER_V6, CLIENT_V6 = "2001:db8::1", "2001:db8::2"
OTHER_V4 = "192.0.2.9"
ANY_IPV4, ANY_IPV6 = f"udp://0.0.0.0:{UDP_PORT}", f"udp://[::]:{UDP_PORT}"


@pytest.fixture
def hosts(lab: Lab) -> Iterator[tuple[Host, Host]]:
    ends = [f"{SERVER_V4}/24", f"{SERVER_V6}/64"], [f"{CLIENT_V4}/24", f"{CLIENT_V6}/64"]
    with wired_with_dns(lab, *ends) as wired:
        yield wired


def drop(host: Host, *matches: str) -> None:
    """Drop the tunnel's datagrams that match, both ways: a black hole, which says nothing."""
    host.run("nft", "add", "table", "inet", "hole")
    for hook, port in (("input", "dport"), ("output", "sport")):
        chain = f"{{ type filter hook {hook} priority 0; }}"
        host.run("nft", "add", "chain", "inet", "hole", hook, chain)
        for match in matches:
            rule = f"{match} udp {port} {UDP_PORT} drop".replace(
                "OUR", f"{'ds'[hook == 'output']}addr"
            )
            host.run("nft", "add", "rule", "inet", "hole", hook, *rule.split())


@pytest.mark.parametrize(("dead", "remote"), [("ipv6", SERVER_V4), ("ipv4", f"[{SERVER_V6}]")])
def test_a_dead_family_of_a_name_with_both_costs_less_than_two_seconds(
    hosts: tuple[Host, Host], tmp_path: Path, dead: str, remote: str
) -> None:
    server, client = hosts
    drop(server, f"meta nfproto {dead}")
    with NameServer(server, DNS, {NAME: [SERVER_V6, SERVER_V4]}):
        tunnel = dial(serve(server, tmp_path, ANY_IPV6), client, tmp_path, NAME)
        wait_until(lambda: "listening" in log_of(tunnel.client), "a start", timeout_s=15)
        began_s = time.monotonic()
        up = f"remote={remote}:{UDP_PORT}"
        wait_until(lambda: up in log_of(tunnel.client), "a link", timeout_s=20)
        lasted_s = time.monotonic() - began_s
        tunnel.wait_up(2)
    print(f"dead {dead}: up after {lasted_s:.2f} s")  # noqa: T201
    assert lasted_s < 2


@pytest.mark.alone
def test_a_family_that_dies_under_a_tunnel_is_left_for_the_other(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = hosts
    with NameServer(server, DNS, {NAME: [SERVER_V6, SERVER_V4]}):
        tunnel = dial(serve(server, tmp_path, ANY_IPV6), client, tmp_path, NAME)
        tunnel.wait_up()
        with probing(client, server, tunnel.server.inner_address) as probe:
            drop(server, "meta nfproto ipv6")
            lasted_s = probe.seconds_until_answer(40)
    print(f"outage {lasted_s:.2f} s")  # noqa: T201
    assert lasted_s < 5
    assert f"roamed  peer={NAME}  remote={SERVER_V4}:{UDP_PORT}" in log_of(tunnel.client)


def test_a_server_that_has_moved_is_found_by_its_name(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = hosts
    with NameServer(server, DNS, {NAME: [SERVER_V4]}) as names:
        tunnel = dial(serve(server, tmp_path, ANY_IPV4), client, tmp_path, NAME)
        tunnel.wait_up()
        with probing(client, server, tunnel.server.inner_address) as probe:
            server.ip("address", "add", f"{OTHER_V4}/24", "dev", "to-client")
            drop(server, f"ip OUR {SERVER_V4}")
            names.hosts = {NAME: [OTHER_V4]}
            lasted_s = probe.seconds_until_answer(40)
    print(f"outage {lasted_s:.2f} s")  # noqa: T201
    assert lasted_s < 10
    assert f"roamed  peer={NAME}  remote={OTHER_V4}:{UDP_PORT}" in log_of(tunnel.client)


# -- sockets ----------------------------------------------------------------------------------

BOUND = [
    pytest.param([SERVER_V6, SERVER_V4], id="v6-first"),
    pytest.param([SERVER_V4, SERVER_V6], id="v4-first"),
    pytest.param(["127.0.0.1", "::1", SERVER_V4, SERVER_V6], id="loopback-first"),
    pytest.param([OTHER_V4, "2001:db8::9", SERVER_V4, SERVER_V6], id="absent-first"),
    pytest.param(["::1", "127.0.0.1", "::"], id="any-last"),
    pytest.param(["10.9.0.1", SERVER_V4, SERVER_V6], id="another-interface-first"),
]


@pytest.mark.parametrize("bound", BOUND)
@pytest.mark.parametrize("peer", [CLIENT_V4, CLIENT_V6])
def test_of_several_sockets_the_one_is_taken_that_reaches_the_peer(
    hosts: tuple[Host, Host], bound: list[str], peer: str
) -> None:
    server, client = hosts
    server.ip("address", "add", "10.9.0.1/32", "dev", "lo")
    ear = client.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET, socket.SOCK_DGRAM)
    ear.bind((peer, 0))
    ear.settimeout(2)

    def send() -> UdpAddress:
        inside = Inside(0, "ft0", RouteLookup(0))
        opened = [
            binding.bound(EndpointAddress(ip_address(each), 0, 0), socket.SOCK_DGRAM)
            for each in bound
        ]
        sockets = UdpSockets(opened, offload=False, inside=inside)
        to = sockets.address_of(ip_address(peer), ear.getsockname()[1])
        sockets.send(b"here", to)
        sockets.close()
        inside.close()
        return to

    with ear:
        server.inside(send)
        message, source = ear.recvfrom(64)
    assert (message, source[0]) == (b"here", SERVER_V6 if ":" in peer else SERVER_V4)
