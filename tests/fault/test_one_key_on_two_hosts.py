"""One client's file on two hosts: both connect in turns, few times, and both sides say why.

server 10.0.0.1, 10.0.1.1   ===veth===   first  10.0.0.2
                            ===veth===   second 10.0.1.2
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import SERVER_ADDRESSES, add_peer, endpoints, start_gateway

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Transport

WATCHED_S = 10.0


def warnings(gateway: GatewayProcess, text: str) -> list[str]:
    return [line for line in gateway.log_tail(500) if text in line and " warning " in line]


def two_hosts(
    lab: Lab, tmp_path: Path, transport: Transport
) -> tuple[GatewayProcess, list[GatewayProcess]]:
    """Start a server, and two clients with one file."""
    server, *hosts = (lab.host(name) for name in ("server", "first", "second"))
    for n, host in enumerate(hosts):
        lab.wire(server, host, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
        host.ip("route", "add", "10.0.0.0/16", "via", f"10.0.{n}.1")
    listen = [word for url in endpoints("0.0.0.0", transport) for word in ("--listen", url)]  # noqa: S104 (in a namespace)
    serving = start_gateway(
        server, tmp_path, "serve", *listen, wire="wireguard", addresses=SERVER_ADDRESSES
    )
    file = str(add_peer(serving, "laptop", "10.0.0.1", transport))
    clients = []
    for host in hosts:
        clients.append(start_gateway(host, tmp_path, "connect", file, wire="wireguard"))
        wait_until(lambda host=host: answers_ping(host, "10.99.0.1"), "the tunnel", timeout_s=15)
    return serving, clients


def test_on_tcp_the_pauses_grow_and_both_sides_name_the_cause(lab: Lab, tmp_path: Path) -> None:
    server, clients = two_hosts(lab, tmp_path, "tcp")
    before = server.scrape().total("fastun_reconnects_total")
    time.sleep(WATCHED_S)
    n_links = server.scrape().total("fastun_reconnects_total") - before
    print(f"{n_links:.0f} links in {WATCHED_S:.0f} s")  # noqa: T201
    assert 4 <= n_links <= 45
    (said,) = warnings(server, "in turns")
    assert "10.0.0.2" in said
    assert "10.0.1.2" in said
    assert "laptop" in said
    for client in clients:
        assert len(warnings(client, "private key used on another host")) == 1
        assert not any("connected again" in line for line in client.log_tail(500))


@pytest.mark.soak
def test_on_udp_the_server_names_both(lab: Lab, tmp_path: Path) -> None:
    server, clients = two_hosts(lab, tmp_path, "udp")
    for client in clients:
        client.host.spawn("ping", "-i", "0.2", "10.99.0.1")
    wait_until(lambda: bool(warnings(server, "in turns")), "the server warns", timeout_s=110)
    said = "private key used on another host"
    wait_until(lambda: all(warnings(c, said) for c in clients), "clients warn", timeout_s=60)
    assert len(warnings(server, "in turns")) == 1
