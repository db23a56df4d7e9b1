"""Four lanes at both ends of a tunnel over TCP: a flow keeps to one, and all have their share."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.host import wait_until
from fastun.lab.network import Lab
from fastun.lab.traffic import iperf3
from fastun.lab.tunnel import Tunnel, start_tunnel
from tests.support.lanes_at_once import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from tests.support.figures import Figures

N_LANES = 4
N_TCP = 32
N_NUMBERED = 16
N_FLOWS = 1024
PACE_S = 0.005
SOAK = os.environ.get("FASTUN_SOAK") == "1"


@pytest.fixture(scope="module")
def tunnel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tunnel]:
    lanes = ("--lanes", str(N_LANES))
    with Lab() as lab, pytest.MonkeyPatch.context() as patched:
        patched.setattr(lab_tunnel, "FASTUN", AT_ONCE)
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, ["10.0.1.1/24"], ["10.0.1.2/24"])
        pair = start_tunnel(
            server,
            client,
            "10.0.1.1",
            tmp_path_factory.mktemp("order"),
            server_arguments=lanes,
            client_arguments=lanes,
        )
        pair.wait_up()
        wait_until(lambda: n_connections(client) == N_LANES, "a connection a lane", timeout_s=10)
        yield pair


def n_connections(client: Host) -> int:
    words = ("-Htn", "state", "established", "dport", "=", ":55555")
    return len(client.run("ss", *words).stdout.splitlines())


def out_of_order(numbers: list[int]) -> int:
    return sum(after <= before for before, after in itertools.pairwise(numbers))


class Numbered:
    """A flow of numbered datagrams, and the numbers that came back, as they came."""

    def __init__(self, source: Host, address: str, port: int) -> None:
        self.socket = source.socket(kind=socket.SOCK_DGRAM)
        self.socket.connect((address, port))
        self.socket.setblocking(False)
        self.n_sent = 0
        self.came: list[int] = []

    def send(self) -> None:
        try:
            self.socket.send(self.n_sent.to_bytes(4, "big"))
            self.n_sent += 1
        except BlockingIOError:
            pass

    def receive(self) -> None:
        try:
            while True:
                self.came.append(int.from_bytes(self.socket.recv(16), "big"))
        except BlockingIOError:
            pass

    def n_out_of_order(self) -> int:
        return out_of_order(self.came)


def echo_of(host: Host, address: str, came: list[tuple[tuple[str, int], int]]) -> socket.socket:
    """Send back what comes, and note it with its source; ends when it is closed."""
    echo = host.socket(kind=socket.SOCK_DGRAM)
    echo.bind((address, 0))

    def serve() -> None:
        try:
            while True:
                data, back = echo.recvfrom(16)
                if not data:
                    return
                came.append((back, int.from_bytes(data, "big")))
                echo.sendto(data, back)
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    return echo


@pytest.mark.promise("A flow keeps its order over several lanes, also beside many others")
def test_numbered_flows_beside_many_transfers_keep_their_order(
    tunnel: Tunnel, figures: Figures
) -> None:
    server, client = tunnel.server, tunnel.client
    came: list[tuple[tuple[str, int], int]] = []
    duration_s = 60 if SOAK else 3
    echo = echo_of(server.host, server.inner_address, came)
    port = echo.getsockname()[1]
    flows = [Numbered(client.host, server.inner_address, port) for _ in range(N_NUMBERED)]
    load = threading.Thread(
        target=iperf3,
        args=(client.host, server.host, server.inner_address),
        kwargs={"duration_s": duration_s, "n_streams": N_TCP},
    )
    load.start()
    while load.is_alive():
        for flow in flows:
            flow.send()
            flow.receive()
        time.sleep(PACE_S)
    time.sleep(0.5)
    for flow in flows:
        flow.receive()
    by_flow: dict[tuple[str, int], list[int]] = {}
    for source, number in came:
        by_flow.setdefault(source, []).append(number)
    n_wrong = sum(flow.n_out_of_order() for flow in flows)
    n_wrong_there = sum(map(out_of_order, by_flow.values()))
    figures.total("numbered packets that came back", sum(len(flow.came) for flow in flows))
    figures.total("of them out of order", n_wrong + n_wrong_there)
    assert len(by_flow) == N_NUMBERED
    assert all(len(flow.came) > flow.n_sent / 2 for flow in flows)
    assert (n_wrong_there, n_wrong) == (0, 0)


def test_many_equal_flows_are_even_over_the_lanes(tunnel: Tunnel) -> None:
    def carried() -> list[float]:
        scrape = tunnel.client.scrape()
        return [
            scrape.total("fastun_packets_total", role="link-writer", lane=str(lane))
            for lane in range(N_LANES)
        ]

    before = carried()
    for n in range(N_FLOWS):
        with tunnel.client.host.socket(kind=socket.SOCK_DGRAM) as flow:
            flow.bind((tunnel.client.inner_address, 20_000 + n))
            for _ in range(N_LANES):
                flow.sendto(b"x", (tunnel.server.inner_address, 9))
        if n % 32 == 0:
            time.sleep(PACE_S)
    wait_until(
        lambda: sum(carried()) - sum(before) >= N_LANES * N_FLOWS, "all are out", timeout_s=10
    )
    shares = [(now - was) / N_FLOWS for now, was in zip(carried(), before, strict=True)]
    print(shares)  # noqa: T201
    assert all(0.8 <= share <= 1.2 for share in shares)


def test_flows_without_answers_cross_for_a_moment_and_then_keep_to_the_lane_that_reads_them(
    tunnel: Tunnel,
) -> None:
    client, server = tunnel.client, tunnel.server
    stopped = threading.Event()

    def send() -> None:
        flows = [client.host.socket(kind=socket.SOCK_DGRAM) for _ in range(N_NUMBERED)]
        while not stopped.is_set():
            for flow in flows:
                flow.sendto(b"x", (server.inner_address, 9))
            time.sleep(PACE_S)
        for flow in flows:
            flow.close()

    def counted() -> tuple[float, float]:
        scrape = client.scrape()
        crossed = scrape.total("fastun_crossed_packets_total")
        return scrape.total("fastun_packets_total", role="link-writer"), crossed

    def none_crosses() -> bool:
        sent, crossed = counted()
        wait_until(lambda: counted()[0] > sent + 20 * N_NUMBERED, "more are sent", timeout_s=20)
        return counted()[1] == crossed

    chain = "{ type filter hook output priority 0; icmp type 3 drop; }"  # what would answer
    server.host.run("nft", f"table inet quiet {{ chain out {chain}; }}")
    sender, (_, before) = threading.Thread(target=send), counted()
    sender.start()
    try:
        wait_until(lambda: counted()[1] > before, "they cross")
        wait_until(none_crosses, "they cross no more", timeout_s=20)
    finally:
        stopped.set()
        sender.join()
        server.host.run("nft", "delete", "table", "inet", "quiet")
