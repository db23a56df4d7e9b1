"""Outages that a client ends by itself: another uplink, a dead family of addresses, a wrong clock.

              10.0.0.1 ===veth=== 10.0.0.2
server 10.9.9.9                            client
              10.0.1.1 ===veth=== 10.0.1.2
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import SERVER_ADDRESSES, add_peer, endpoints, start_gateway
from tests.support.promised import promised_s

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Transport
    from tests.conftest import StartTunnel

SERVER_INNER = "10.99.0.1"
SERVER_OUTER = "10.9.9.9"

# The gateway, but its host's clock is an hour slow.
AN_HOUR_SLOW = """
import time
now_ns = time.time_ns
time.time_ns = lambda: now_ns() - 3600 * 10**9
from fastun.command.cli import main
main()
"""


def seconds_until_answered(host: Host, within_s: float) -> float:
    begun_s = time.monotonic()
    wait_until(
        lambda: answers_ping(host, SERVER_INNER), "the tunnel", timeout_s=within_s, interval_s=0.05
    )
    return time.monotonic() - begun_s


class TwoUplinks:
    """A server, and a client with two ways to it."""

    def __init__(self, lab: Lab, directory: Path, transport: Transport) -> None:
        self.server_host, self.client_host = lab.host("server"), lab.host("client")
        for n in range(2):
            name = f"up{n}"
            self.client_host.ip("link", "add", name, "type", "veth", "peer", "name", f"x{n}")
            self.client_host.ip("link", "set", f"x{n}", "netns", self.server_host.namespace)
            self.client_host.ip("address", "add", f"10.0.{n}.2/24", "dev", name)
            self.server_host.ip("address", "add", f"10.0.{n}.1/24", "dev", f"x{n}")
            self.client_host.ip("link", "set", name, "up")
            self.server_host.ip("link", "set", f"x{n}", "up")
        self.server_host.ip("address", "add", f"{SERVER_OUTER}/32", "dev", "lo")
        self.go_by(0)
        listen = [word for url in endpoints("0.0.0.0", transport) for word in ("--listen", url)]  # noqa: S104 (in a namespace)
        self.server = start_gateway(
            *(self.server_host, directory, "serve", *listen),
            wire="wireguard",
            addresses=SERVER_ADDRESSES,
        )
        file = str(add_peer(self.server, "client", SERVER_OUTER, transport))
        self.client = start_gateway(self.client_host, directory, "connect", file, wire="wireguard")

    def go_by(self, uplink: int) -> None:
        via = f"10.0.{uplink}.1"
        self.client_host.ip("route", "replace", f"{SERVER_OUTER}/32", "via", via)


@pytest.mark.parametrize("transport", ["tcp", "both"])
@pytest.mark.parametrize("loses_the_first", [True, False], ids=["lost", "still-there"])
def test_another_uplink_carries_the_tunnel_within_five_seconds(
    lab: Lab, tmp_path: Path, transport: Transport, *, loses_the_first: bool
) -> None:
    ways = TwoUplinks(lab, tmp_path, transport)
    seconds_until_answered(ways.client_host, 15)
    time.sleep(1)  # the link has been looked at
    ways.client_host.spawn("ping", "-i", "0.2", SERVER_INNER)
    # What is still sent by the first is lost, as behind a router that has no way on.
    for hook in ("input", "output"):
        chain = f"{{ type filter hook {hook} priority 0; }}"
        ways.server_host.run("nft", "add", "table", "inet", "lost")
        ways.server_host.run("nft", "add", "chain", "inet", "lost", hook, chain)
    ways.go_by(1)
    if loses_the_first:
        ways.client_host.ip("link", "set", "up0", "down")
    for hook, where in (("input", "iif"), ("output", "oif")):
        rule = ("nft", "add", "rule", "inet", "lost", hook, where, "x0", "drop")
        ways.server_host.run(*rule)
    rule = ("nft", "add", "rule", "inet", "lost", "input", "ip", "saddr", "10.0.0.2", "drop")
    ways.server_host.run(*rule)
    took_s = seconds_until_answered(ways.client_host, 5)
    print(f"carried again after {took_s:.2f} s")  # noqa: T201


def with_endpoints(file: Path, urls: Sequence[str]) -> str:
    """Write the file with other endpoints; return its path."""
    said = ", ".join(f'"{url}"' for url in urls)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert any(each.startswith("endpoint") for each in lines)
    lines = [f"endpoints = [{said}]" if each.startswith("endpoint") else each for each in lines]
    file.write_text("\n".join(lines), encoding="utf-8")
    return str(file)


def test_a_dead_ipv6_costs_a_second_at_most(
    lab: Lab, hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = hosts
    lab.wire(server, client, ["10.0.0.1/24", "fd00::1/64"], ["10.0.0.2/24", "fd00::2/64"])
    server.run("nft", "add", "table", "ip6", "dead")
    server.run("nft", "add", "chain", "ip6", "dead", "in", "{ type filter hook input priority 0; }")
    server.run("nft", "add", "rule", "ip6", "dead", "in", "tcp", "dport", "55555", "drop")
    serving = start_gateway(server, tmp_path, "serve", wire="wireguard", addresses=SERVER_ADDRESSES)
    file = add_peer(serving, "client", "10.0.0.1")
    dead = [f"tcp://[fd00::{n}]:55555" for n in (1, 11, 12)]
    path = with_endpoints(file, [*dead, "tcp://10.0.0.1:55555"])
    gateway = start_gateway(client, tmp_path, "connect", path, wire="wireguard")
    wait_until(lambda: client.listens(10055), "the client runs", timeout_s=15)
    took_s = seconds_until_answered(client, promised_s(5))
    print(f"up {took_s:.2f} s after the start")  # noqa: T201
    assert took_s < promised_s(2)  # the start of the workers is in it
    assert any("10.0.0.1" in line for line in gateway.log_tail(50) if " up " in line)


def test_an_ipv6_that_dies_under_a_stream_is_left_for_ipv4(
    lab: Lab, hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = hosts
    lab.wire(server, client, ["10.0.0.1/24", "fd00::1/64"], ["10.0.0.2/24", "fd00::2/64"])
    serving = start_gateway(
        *(server, tmp_path, "serve", "--listen", "tcp://[::]:55555"),
        wire="wireguard",
        addresses=SERVER_ADDRESSES,
    )
    wait_until(lambda: answers_ping(client, "fd00::1"), "IPv6")
    file = with_endpoints(
        add_peer(serving, "client", "10.0.0.1"), ["tcp://[fd00::1]:55555", "tcp://10.0.0.1:55555"]
    )
    gateway = start_gateway(client, tmp_path, "connect", file, wire="wireguard")
    seconds_until_answered(client, 15)
    assert any("fd00::1" in line for line in gateway.log_tail(50) if " up " in line)
    client.spawn("ping", "-i", "0.2", SERVER_INNER)
    server.run("nft", "add", "table", "ip6", "dead")
    for hook, port in (("input", "dport"), ("output", "sport")):
        chain = f"{{ type filter hook {hook} priority 0; }}"
        server.run("nft", "add", "chain", "ip6", "dead", hook, chain)
        server.run("nft", "add", "rule", "ip6", "dead", hook, "tcp", port, "55555", "drop")
    took_s = seconds_until_answered(client, promised_s(20))
    print(f"carried again after {took_s:.2f} s")  # noqa: T201
    assert took_s < promised_s(5)
    assert any("this side has dialled again" in line for line in gateway.log_tail(50))


@pytest.mark.promise("A client whose clock was set back connects at once")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_clock_that_was_set_back_an_hour_keeps_out_nothing(
    tunnel: StartTunnel, tmp_path: Path, transport: Transport
) -> None:
    pair = tunnel(transport=transport)
    assert pair.client.stop() == 0
    client: GatewayProcess = start_gateway(
        *(pair.client.host, tmp_path, "connect", str(tmp_path / "server" / "client.toml")),
        wire="wireguard",
        program=(sys.executable, "-c", AN_HOUR_SLOW),
    )
    took_s = seconds_until_answered(client.host, 10)
    print(f"up after {took_s:.2f} s")  # noqa: T201
    assert not any(" warning " in line for line in pair.server.log_tail(100))
    assert client.stop() == 0
