"""What one client, or a change of ours, does to UDP_SEGMENT for the others: nothing.

client (fastun connect)  ==== veth ==== 10.0.0.1  server (fastun serve)
stranger (has keys)      ==== veth ==== 10.0.9.1
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import (
    UDP_PORT,
    Tunnel,
)
from tests.support.goodput import Goodput, after, busy, usual
from tests.support.known_at import add_known_peer
from tests.support.roaming_client import RoamingClient
from tests.support.serve_and_dial import dial, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess

KEPT = 0.9
N_BUSY, N_TIMES = 3, 4
N_SINGLY_MAX = 50  # in seconds of some 100,000 packets; a probe of the path is one
BACK_S_MAX = 60


@pytest.fixture
def pair(lab: Lab, hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[Tunnel]:
    """A tunnel whose server listens on all addresses, by one socket."""
    server, client = hosts
    lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
    serving = serve(server, tmp_path, f"udp://[::]:{UDP_PORT}")
    pair = dial(serving, client, tmp_path, "10.0.0.1")
    pair.wait_up()
    yield pair
    for gateway in (pair.client, serving):
        print(f"--- {gateway.role} log", *gateway.log_tail(40), sep="\n")  # noqa: T201
        assert gateway.stop() == 0


@pytest.fixture
def stranger(lab: Lab, hosts: tuple[Host, Host]) -> Host:
    host = lab.host("stranger")
    lab.wire(hosts[0], host, ["10.0.9.1/24"], ["10.0.9.2/24"])
    hosts[0].ip("address", "change", "10.0.9.1/24", "broadcast", "10.0.9.255", "dev", "to-stranger")
    return host


def join(pair: Tunnel, host: Host, name: str, server: str) -> RoamingClient:
    file = add_known_peer(pair.server, name, server, "udp")
    return RoamingClient(host, file, server)


def refused(gateway: GatewayProcess) -> int:
    return int(gateway.scrape().total("fastun_refused_offloads_total", role="link-writer"))


def singly(gateway: GatewayProcess) -> int:
    """How many messages were sent one by one; trains go by sendmmsg."""
    return int(gateway.scrape().total("fastun_syscalls_total", role="link-writer", call="sendmsg"))


def check_kept(pair: Tunnel, before: Goodput) -> None:
    n_singly = singly(pair.server)
    now = after(pair, before, KEPT)
    n_singly = singly(pair.server) - n_singly
    kept = now.kept_of(before)
    print(f"{before} before, {now} after: {kept:.2f}, {n_singly} alone")  # noqa: T201
    assert n_singly < N_SINGLY_MAX
    assert kept >= KEPT


def logged(gateway: GatewayProcess, text: str) -> list[str]:
    return [line for line in gateway.log_tail(1000) if text in line]


def test_a_client_that_sends_to_our_broadcast_address_costs_the_others_nothing(
    pair: Tunnel, stranger: Host
) -> None:
    before = usual(pair)
    client = join(pair, stranger, "stranger", "10.0.9.1")
    with client, busy(pair.server.host, [client.inner]):
        for i in range(400):
            client.send(client.seal(), "10.0.9.255" if i % 2 == 0 else "10.0.9.1")
            time.sleep(0.005)
    check_kept(pair, before)
    assert refused(pair.server) == 0


def test_an_address_of_ours_that_goes_and_comes_back_costs_nothing(
    pair: Tunnel, hosts: tuple[Host, Host]
) -> None:
    server, client = hosts
    server.sysctl("net.ipv4.conf.all.promote_secondaries", 1)
    server.ip("address", "add", "10.0.0.11/24", "dev", "to-client")
    before = usual(pair)
    files = [add_known_peer(pair.server, f"busy{i}", "10.0.0.1", "udp") for i in range(N_BUSY)]
    with ExitStack() as stack:
        clients = [stack.enter_context(RoamingClient(client, file, "10.0.0.1")) for file in files]
        with busy(server, [each.inner for each in clients]):
            for _ in range(N_TIMES):
                server.ip("address", "del", "10.0.0.1/24", "dev", "to-client")
                time.sleep(0.2)
                server.ip("address", "add", "10.0.0.1/24", "dev", "to-client")
                for each in clients:
                    each.send(each.seal(), "10.0.0.11")
                    each.send(each.seal())
                time.sleep(0.2)
    assert not logged(pair.server, "the kernel refuses")
    check_kept(pair, before)


def drop_trains(host: Host, to: str) -> None:
    """Have a firewall drop what is longer than any packet: trains, which are not yet cut there."""
    host.run(
        "nft",
        "table ip f {\nchain out {\ntype filter hook output priority 0;\n"
        f"ip daddr {to} udp sport {UDP_PORT} ip length > 2000 drop\n}}\n}}",
    )


def test_a_route_to_one_client_that_takes_no_trains_costs_that_one_alone(
    pair: Tunnel, stranger: Host
) -> None:
    before = usual(pair)
    drop_trains(pair.server.host, "10.0.9.2")
    client = join(pair, stranger, "stranger", "10.0.9.1")
    with client, busy(pair.server.host, [client.inner]):
        wait_until(lambda: bool(logged(pair.server, "the kernel refuses UDP seg")), "a line")
        n_received = sum(len(client.socket.recv(65535)) > 1000 for _ in range(200))
    assert n_received == 200  # what was refused as a train has come singly
    (line,) = logged(pair.server, "the kernel refuses")
    assert "peer=stranger" in line
    assert 8 <= refused(pair.server) <= 10
    check_kept(pair, before)


def goes_in_trains(gateway: GatewayProcess) -> bool:
    """Whether next to nothing is sent one by one."""
    before = singly(gateway)
    time.sleep(0.5)
    return singly(gateway) - before < N_SINGLY_MAX


@pytest.mark.soak
def test_trains_are_back_within_a_minute_of_the_end_of_what_refused_them(
    pair: Tunnel,
) -> None:
    before = usual(pair)
    drop_trains(pair.server.host, "10.0.0.2")
    during = usual(pair)
    time.sleep(25)  # a trial fails
    usual(pair)
    pair.server.host.run("nft", "delete table ip f")
    ended = time.monotonic()
    with busy(pair.server.host, [pair.client.inner_address]):
        wait_until(lambda: goes_in_trains(pair.server), "trains again", timeout_s=BACK_S_MAX)
    print(f"{during} meanwhile, back after {time.monotonic() - ended:.0f} s")  # noqa: T201
    assert len(logged(pair.server, "the kernel refuses")) == 1
    check_kept(pair, before)
