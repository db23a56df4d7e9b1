"""A tunnel says nothing that nothing asked for: no redirects, no unknown destinations, no drops."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import INTERFACE, SERVER_ADDRESSES, add_peer, start_gateway
from tests.support.scrapes import drops

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from tests.conftest import StartTunnel

IDLE_S = 10.0  # IPv6 greets a new interface for so long


def test_an_idle_tunnel_drops_nothing(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="udp")
    time.sleep(IDLE_S)
    for gateway in (pair.server, pair.client):
        assert drops(gateway.scrape()) == {}
        assert "fe80" not in gateway.host.ip("-6", "address", "show", "dev", INTERFACE)


def redirects(host: Host) -> int:
    """The ICMP redirects that a host has sent."""
    with host.inside(lambda: open("/proc/thread-self/net/snmp", encoding="ascii")) as file:  # noqa: PTH123
        names, numbers = (line.split() for line in file if line.startswith("Icmp:"))
    return int(dict(zip(names, numbers, strict=True))["OutRedirects"])


def send_redirects(host: Host, where: str) -> str:
    return host.run("sysctl", "-n", f"net.ipv4.conf.{where}.send_redirects").stdout.strip()


def test_a_packet_from_client_to_client_is_not_redirected(lab: Lab, tmp_path: Path) -> None:
    server, *clients = (lab.host(name) for name in ("server", "ant", "bee"))
    server.sysctl("net.ipv4.ip_forward", 1)
    server.sysctl("net.ipv4.conf.all.send_redirects", 1)
    for number, client in enumerate(clients):
        lab.wire(server, client, [f"10.{number}.0.1/24"], [f"10.{number}.0.2/24"])
    serving = start_gateway(server, tmp_path, "serve", wire="wireguard", addresses=SERVER_ADDRESSES)
    wait_until(lambda: server.listens(55555), "the server listens", timeout_s=15)
    connecting = []
    for number, client in enumerate(clients):
        directory = tmp_path / client.name
        directory.mkdir()
        file = add_peer(serving, client.name, f"10.{number}.0.1", "udp")
        connecting.append(start_gateway(client, directory, "connect", str(file), wire="wireguard"))
    for client in clients:
        wait_until(lambda at=client: answers_ping(at, "10.99.0.1"), "the tunnel", timeout_s=20)
    assert answers_ping(clients[0], "10.99.0.3")
    assert sum(answers_ping(clients[0], "10.99.0.3") for _ in range(5)) == 5
    assert redirects(server) == 0
    assert send_redirects(server, "all") == send_redirects(server, INTERFACE) == "0"
    for gateway in (*connecting, serving):
        assert gateway.stop() == 0
    assert send_redirects(server, "all") == "1"


def test_packets_of_the_first_moment_meet_workers_that_know_the_peers(
    lab: Lab, tmp_path: Path
) -> None:
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, ["10.1.0.1/24"], ["10.1.0.2/24"])
    arguments = ("serve",)
    first = start_gateway(
        server, tmp_path, *arguments, wire="wireguard", addresses=SERVER_ADDRESSES
    )
    wait_until(lambda: server.listens(55555), "the server listens", timeout_s=15)
    add_peer(first, "client", "10.1.0.1", "udp")
    assert first.stop() == 0
    with server.socket(kind=socket.SOCK_DGRAM) as sending:
        again = start_gateway(
            server, tmp_path, *arguments, wire="wireguard", addresses=SERVER_ADDRESSES
        )
        wait_until(lambda: INTERFACE in server.devices(), "the device", timeout_s=15)
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            try:
                sending.sendto(b"early", ("10.99.0.2", 9))
            except OSError:  # no address yet
                continue
            time.sleep(0.002)
        wait_until(lambda: server.listens(55555), "the server listens", timeout_s=15)
    assert ("tun-reader", "no_peer") not in drops(again.scrape())
    assert again.stop() == 0
