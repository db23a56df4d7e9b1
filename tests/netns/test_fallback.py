"""A client whose server can be reached by UDP and by TCP; see tests/conftest.py for the topology.

UDP is what it uses while that works. A firewall between the two is an nft rule on the server.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import endpoints, start_gateway
from tests.support.blocked_udp import block_udp, unblock_udp
from tests.support.compressed_time import gateway_with
from tests.support.scrapes import assert_adds_up, quiesced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.tunnel import GatewayProcess, Tunnel
    from tests.conftest import StartTunnel

# The gateway, but it gives up an unanswered handshake after 2 s instead of 90.
IMPATIENT = gateway_with(rekey_timeout_s=0.5, rekey_attempt_time_s=2.0, jitter_s=0.01)
CHUNK_BYTES = 16384
PACE_S = 0.005  # between chunks: 3 MB/s, far from what the machine could be too slow for


def chunk(n: int) -> bytes:
    return n.to_bytes(8, "big") * (CHUNK_BYTES // 8)


class Stream:
    """A TCP connection inside, over which numbered chunks go at a steady pace."""

    def __init__(self, source: Host, destination: Host, address: str, port: int) -> None:
        with destination.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(1)
            self._sender = source.socket()
            self._sender.settimeout(60)
            self._sender.connect((address, port))
            self._receiver, _ = listener.accept()
        self._receiver.settimeout(60)
        self._stopped = threading.Event()
        self._arrivals: list[float] = []
        self.n_sent = 0
        self.is_exact = True
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._take)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        with self._sender:
            while not self._stopped.wait(PACE_S):
                self._sender.sendall(chunk(self.n_sent))
                self.n_sent += 1

    def _take(self) -> None:
        with self._receiver, self._receiver.makefile("rb") as file:
            while data := file.read(CHUNK_BYTES):
                self.is_exact &= data == chunk(len(self._arrivals))
                self._arrivals.append(time.monotonic())

    def longest_gap_s(self, since_s: float, until_s: float) -> float:
        """The longest time without a chunk; what has not ended counts as well."""
        times = [since_s, *(at for at in self._arrivals if since_s < at < until_s), until_s]
        return max(after - before for before, after in pairwise(times))

    def end(self) -> None:
        """Stop, and check that every chunk came, in order."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)
        assert self.is_exact
        assert len(self._arrivals) == self.n_sent


@contextmanager
def streaming(pair: Tunnel) -> Iterator[list[Stream]]:
    """Stream both ways."""
    streams = [
        Stream(source.host, destination.host, destination.inner_address, port)
        for source, destination, port in (
            (pair.client, pair.server, 5401),
            (pair.server, pair.client, 5402),
        )
    ]
    yield streams
    for stream in streams:
        stream.end()


def is_on(gateway: GatewayProcess, transport: str) -> bool:
    samples = gateway.scrape()
    return any("fastun_peer_info" in s and f'transport="{transport}"' in s for s in samples)


def wait_on(pair: Tunnel, transport: str, timeout_s: float) -> None:
    for gateway in (pair.client, pair.server):
        wait_until(
            lambda each=gateway: is_on(each, transport),
            f"{gateway.role} on {transport}",
            timeout_s=timeout_s,
            interval_s=0.1,
        )


def test_transfers_outlive_the_way_to_tcp_and_back(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="both")
    wait_on(pair, "udp", 1)
    with streaming(pair) as streams:
        time.sleep(1)
        blocked_s = time.monotonic()
        block_udp(pair.server.host)
        wait_on(pair, "tcp", 15)
        time.sleep(4)
        unblocked_s = time.monotonic()
        unblock_udp(pair.server.host)
        wait_on(pair, "udp", 20)
        time.sleep(1)
        to_tcp_s = max(stream.longest_gap_s(blocked_s, unblocked_s) for stream in streams)
        to_udp_s = max(stream.longest_gap_s(unblocked_s, time.monotonic()) for stream in streams)
    print(f"longest gap to TCP {to_tcp_s:.2f} s, back to UDP {to_udp_s:.3f} s")  # noqa: T201
    assert to_tcp_s <= 10
    assert to_udp_s <= 1
    for gateway in (pair.client, pair.server):
        assert_adds_up(quiesced(gateway))


def test_without_udp_from_the_start_tcp_comes_up_soon_and_udp_takes_over_when_it_can(
    tunnel: StartTunnel, hosts: tuple[Host, Host]
) -> None:
    server, _ = hosts
    block_udp(server)
    pair = tunnel(transport="both", wait=False)
    wait_until(lambda: pair.client.host.listens(10055), "the client runs", timeout_s=15)
    started = time.monotonic()
    pair.wait_up(15)
    up_s = time.monotonic() - started
    print(f"up on TCP {up_s:.1f} s after the client's start")  # noqa: T201
    assert is_on(pair.client, "tcp")
    assert up_s < 7
    unblock_udp(server)
    wait_on(pair, "udp", 20)
    assert answers_ping(pair.client.host, pair.server.inner_address)


def test_udp_is_tried_for_ever(tunnel: StartTunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_tunnel, "FASTUN", IMPATIENT)
    pair = tunnel(transport="both", client_arguments=["-v"])
    block_udp(pair.server.host)
    pinging = pair.client.host.spawn("ping", "-i", "0.1", pair.server.inner_address)
    wait_on(pair, "tcp", 15)
    time.sleep(4)
    assert any("no answer in time" in line for line in pair.client.log_tail(200))
    unblock_udp(pair.server.host)
    wait_on(pair, "udp", 5)
    pinging.kill()


def test_a_server_that_restarts_is_found_again_on_udp_and_not_much_is_said_about_it(
    tunnel: StartTunnel, tmp_path: Path
) -> None:
    pair = tunnel(transport="both")
    pinging = pair.client.host.spawn("ping", "-i", "0.1", pair.server.inner_address)
    assert pair.server.stop() == 0
    time.sleep(6)
    listen = [word for url in endpoints("10.0.0.1", "both") for word in ("--listen", url)]
    server = start_gateway(
        *(pair.server.host, tmp_path, "serve", *listen),
        wire="wireguard",
        addresses=pair.server.addresses,
    )
    again = type(pair)(server, pair.client)
    again.wait_up(15)
    wait_on(again, "udp", 15)
    pinging.kill()
    warnings = [line for line in pair.client.log_tail(100) if " warning " in line]
    assert 1 <= len(warnings) <= 10
    for gateway in (pair.client, server):
        assert_adds_up(quiesced(gateway))
    assert server.stop() == 0


def test_traffic_without_an_answer_stays_on_udp(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="both")
    address = (pair.server.inner_address, 5500)
    with pair.server.host.socket(kind=socket.SOCK_DGRAM) as sink:
        sink.bind(address)
        with pair.client.host.socket(kind=socket.SOCK_DGRAM) as source:
            until_s = time.monotonic() + 12
            while time.monotonic() < until_s:
                source.sendto(b"one way", address)
                time.sleep(0.05)
                assert is_on(pair.client, "udp")
    assert pair.client.scrape().total("fastun_reconnects_total") == 0
