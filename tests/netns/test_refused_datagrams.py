"""What this host refuses to send on a tunnel that is up is said, with the cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from fastun.lab.traffic import ping
from tests.support.scrapes import drops, quiesced
from tests.support.serve_and_dial import log_of

if TYPE_CHECKING:
    from tests.conftest import StartTunnel

HOOK = "{ type filter hook output priority 0; }"


def test_a_firewall_that_drops_what_is_sent_is_named_once_and_counted(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="udp")
    client = pair.client.host
    for command in (
        ("table", "inet", "own"),
        ("chain", "inet", "own", "output", HOOK),
        ("rule", "inet", "own", "output", "udp", "length", ">", "800", "drop"),
    ):
        client.run("nft", "add", *command)
    inner = pair.server.inner_address
    client.run("ping", "-c3", "-i0.2", "-W1", "-s1000", inner, check=False)
    assert ping(client, inner, n=3, size_bytes=100).n_received == 3
    said = "the kernel refuses datagrams to this peer"
    wait_until(lambda: said in log_of(pair.client), "the warning")
    (line,) = [line for line in log_of(pair.client).splitlines() if said in line]
    assert "peer=server" in line
    assert "Operation not permitted" in line
    assert "nft list ruleset" in line
    assert said not in log_of(pair.server)
    assert drops(quiesced(pair.client))["link-writer", "not_sent"] == 3


def test_a_route_that_goes_in_the_middle_of_a_session_is_missed_once(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="udp")
    client, inner = pair.client.host, pair.server.inner_address
    assert ping(client, inner, n=2, size_bytes=100).n_received == 2
    client.ip("route", "add", "unreachable", "10.0.0.1/32", "metric", "0")
    client.run("ping", "-c10", "-i0.2", "-W1", inner, check=False)
    said = "this host has no route to its address"
    wait_until(lambda: said in log_of(pair.client), "the warning", timeout_s=3)
    client.run("ping", "-c10", "-i0.2", "-W1", inner, check=False)
    (line,) = [line for line in log_of(pair.client).splitlines() if said in line]
    assert "peer=server" in line
    client.ip("route", "del", "unreachable", "10.0.0.1/32", "metric", "0")
    wait_until(lambda: ping(client, inner, n=1, size_bytes=100).n_received == 1, "traffic again")
