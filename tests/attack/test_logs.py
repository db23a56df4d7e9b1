"""An unread log never blocks the gateway, and no source fills it.

client (fastun connect, strangers)  ==== veth ====  server (fastun serve, its stderr a full pipe)
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import PORT, SERVER_ADDRESSES, add_peer, start_gateway
from fastun.log.limits import PER_SOURCE
from fastun.status import control
from tests.support.plain_peer import PlainPeer
from tests.support.processes import find_worker, kill_worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess

OUTER, INNER = "10.0.0.1", "10.99.0.1"
CLIENT, STRANGER = "10.0.0.2", "10.0.0.3"
# What one source may do at once (fastun/link/source_limits.py); beyond that it is not even heard.
N_STRANGERS = 90


def fill(pipe: int) -> None:
    """Write to a pipe until it takes no byte more."""
    os.set_blocking(pipe, False)
    try:
        while True:
            os.write(pipe, b"x" * 512)
    except BlockingIOError:
        pass
    os.set_blocking(pipe, True)  # it is the gateway's as well


@contextmanager
def unread_pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def knock(host: Host, n: int) -> None:
    """Make that many connections to the server that send what is no handshake."""
    for _ in range(n):
        with host.socket() as connection:
            connection.settimeout(5)
            connection.bind((STRANGER, 0))
            connection.connect((OUTER, PORT))
            connection.sendall(b"\x00\x04what")


def status_s(gateway: GatewayProcess) -> float:
    """Return how long `fastun status` waits for its answer."""
    begun_s = time.monotonic()
    control.request(control.socket_path(gateway.log_file.parent, gateway.interface), "status", 5.0)
    return time.monotonic() - begun_s


@pytest.mark.parametrize("when", ["from the start", "while it runs"])
def test_with_stderr_full_status_answers_traffic_flows_and_the_gateway_ends(
    lab: Lab, hosts: tuple[Host, Host], tmp_path: Path, when: str
) -> None:
    inside, outside = hosts
    lab.wire(inside, outside, [f"{OUTER}/24"], [f"{CLIENT}/24", f"{STRANGER}/24"])
    with unread_pipe() as (reader, writer):
        if when == "from the start":
            fill(writer)
        server = start_gateway(
            inside,
            tmp_path,
            "serve",
            "-v",
            wire="wireguard",
            addresses=SERVER_ADDRESSES,
            stderr=writer,
        )
        file = add_peer(server, "client", OUTER)
        client = start_gateway(outside, tmp_path, "connect", str(file), wire="wireguard")
        wait_until(lambda: answers_ping(outside, INNER), "the tunnel", timeout_s=20)
        fill(writer)
        knock(outside, N_STRANGERS)
        kill_worker(server, "tun-writer")  # one more line, and a worker that starts with a full log
        waited_s = [status_s(server) for _ in range(10)]
        wait_until(lambda: find_worker(server, "tun-writer") is not None, "it is replaced")
        wait_until(lambda: answers_ping(outside, INNER), "the tunnel again")
        dropped = server.scrape()['fastun_log_lines_dropped_total{reason="rate_limit"}']
        assert dropped > N_STRANGERS / 4
        assert client.stop(timeout_s=10) == 0
        begun_s = time.monotonic()
        assert server.stop(signal.SIGTERM, timeout_s=10) == 0
        took_s = time.monotonic() - begun_s
        print(f"status within {max(waited_s):.3f} s, SIGTERM took {took_s:.2f} s")  # noqa: T201
        assert max(waited_s) < 1.0
        assert took_s < 5.0
        assert os.read(reader, 100)  # nobody has read before


def test_what_one_source_causes_is_logged_ten_times_and_then_counted(
    lab: Lab, hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    inside, outside = hosts
    lab.wire(inside, outside, [f"{OUTER}/24"], [f"{CLIENT}/24", f"{STRANGER}/24"])
    begun_s = time.monotonic()
    server = start_gateway(inside, tmp_path, "serve", "-v", addresses=SERVER_ADDRESSES)
    wait_until(lambda: inside.listens(PORT), "fastun listens", timeout_s=15)
    knock(outside, N_STRANGERS)  # strangers
    for _ in range(100):  # and a client that comes and goes
        with PlainPeer(outside, OUTER, PORT) as peer:
            peer.say_hello()
    wait_until(
        lambda: server.scrape()["fastun_reconnects_total"] >= 99, "all have come", timeout_s=20
    )
    assert server.stop() == 0
    log = server.log_file.read_text(encoding="utf-8").splitlines()
    n_later = (time.monotonic() - begun_s) / PER_SOURCE.interval_s
    most = PER_SOURCE.burst + n_later
    counts = {
        words: sum(f"link      {words} " in line for line in log)
        for words in ("no link", "up", "down")
    }
    summaries = [line for line in log if "more_like_it=" in line]
    print(f"{N_STRANGERS} strangers and 100 links: {counts}, {len(summaries)} summaries")  # noqa: T201
    assert all(PER_SOURCE.burst <= n <= most + len(summaries) for n in counts.values()), counts
    assert len(log) < 70 + len(counts) * n_later
    assert sum(int(line.rpartition("=")[2]) for line in summaries) > N_STRANGERS / 2
