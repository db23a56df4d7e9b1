"""Workers of the server are killed under load on UDP, and what was recorded before is sent again.

Numbered packets come from the client, 2,000 a second; tests/conftest.py has the topology. No number
may come out of the server's device twice, no counter be on the wire with two messages, and no
handshake be caused.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import UDP_PORT
from fastun.session.protocol import REKEY_AFTER_TIME_S
from tests.fault.test_udp_worker_killed import (
    Recording,
    data_messages,
    end_capture,
    start_capture,
)
from tests.fault.test_worker_killed import ROLES
from tests.support.accounting import assert_adds_up
from tests.support.processes import find_worker, kill_worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from tests.conftest import StartTunnel
    from tests.support.figures import Figures

PORT = 9000
PAUSE_S = 0.0005
RECENT = 1500  # messages that are sent again after each kill


class Numbers:
    """Numbered packets through the tunnel."""

    def __init__(self, source: Host, destination: Host, address: str) -> None:
        self._sender = source.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver = destination.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.bind((address, PORT))
        self._receiver.settimeout(0.5)
        self._to = (address, PORT)
        self._goes_on = True
        self.n_sent = 0
        self.n_received = 0
        self.numbers: set[int] = set()
        self._longest_gap_s = 0.0  # between two that arrived
        self._threads = [threading.Thread(target=each) for each in (self._receive, self._send)]

    def _send(self) -> None:
        while self._goes_on:
            with contextlib.suppress(OSError):
                self._sender.sendto(struct.pack(">Q", self.n_sent), self._to)
            self.n_sent += 1
            time.sleep(PAUSE_S)

    def _receive(self) -> None:
        before_s = None
        while True:
            try:
                packet = self._receiver.recv(64)
            except TimeoutError:
                if not self._goes_on:
                    return
                continue
            now_s = time.monotonic()
            if before_s is not None:
                self._longest_gap_s = max(self._longest_gap_s, now_s - before_s)
            before_s = now_s
            self.n_received += 1
            self.numbers.add(struct.unpack(">Q", packet)[0])

    def take_longest_gap_s(self) -> float:
        """Return the longest since the last call."""
        longest_s, self._longest_gap_s = self._longest_gap_s, 0.0
        return longest_s

    @contextlib.contextmanager
    def flowing(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._goes_on = False
            for thread in reversed(self._threads):
                thread.join()
            self._sender.close()
            self._receiver.close()


def sent_since(recording: Recording) -> list[bytes]:
    """What was sent since the last call, to whichever side."""
    return [each for payload in recording.more() for each in data_messages(payload)]


def send_again(host: Host, messages: list[bytes]) -> None:
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        for n, message in enumerate(messages):
            attacker.sendto(message, ("10.0.0.1", UDP_PORT))
            if n % 100 == 0:
                time.sleep(0.001)


@pytest.mark.promise(
    "A worker killed on UDP causes no handshake, and nothing recorded before is accepted again"
)
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("role", "n_kills"),
    [
        pytest.param("link-reader", 3, id="link-reader"),
        *(pytest.param(each, 200, id=f"{each}-200", marks=pytest.mark.soak) for each in ROLES),
    ],
)
def test_what_was_sent_before_a_kill_is_accepted_once(
    tunnel: StartTunnel, tmp_path: Path, role: str, n_kills: int, figures: Figures
) -> None:
    pair = tunnel(transport="udp")
    file = tmp_path / "outer.pcap"
    capture = start_capture(pair.server.host, file)
    begun_s = time.monotonic()
    n_handshakes_before = pair.server.scrape().total("fastun_handshakes_total", result="ok")
    numbers = Numbers(pair.client.host, pair.server.host, pair.server.inner_address)
    recording, seen = Recording(file), list[bytes]()
    n_again, gaps_s = 0, []
    with numbers.flowing():
        time.sleep(0.3)
        numbers.take_longest_gap_s()
        for _ in range(n_kills):
            seen += sent_since(recording)
            messages = seen[-RECENT:]
            pid = kill_worker(pair.server, role)
            send_again(pair.client.host, messages)
            n_again += len(messages)
            wait_until(lambda p=pid: find_worker(pair.server, role) not in (None, p), "a successor")
            send_again(pair.client.host, messages)
            n_again += len(messages)
            time.sleep(0.3)  # one that dies young again and again is replaced without haste
            gaps_s.append(numbers.take_longest_gap_s())
    end_capture(capture, file)
    after = pair.server.scrape()
    n_twice = numbers.n_received - len(numbers.numbers)
    median_ms, longest_ms = statistics.median(gaps_s) * 1000, max(gaps_s) * 1000
    print(  # noqa: T201
        f"{n_kills} kills of a {role}: gap {median_ms:.0f} ms, the longest {longest_ms:.0f} ms, "
        f"{len(numbers.numbers)} of {numbers.n_sent} packets, {n_twice} twice; "
        f"{n_again} messages sent again"
    )
    figures.total("kills", n_kills)
    figures.total("messages sent again", n_again)
    figures.worst("median gap", statistics.median(gaps_s), "s")
    figures.worst("longest gap", max(gaps_s), "s")
    assert n_again > 100 * n_kills
    assert n_twice == 0
    n_handshakes = after.total("fastun_handshakes_total", result="ok") - n_handshakes_before
    assert n_handshakes <= (time.monotonic() - begun_s) // REKEY_AFTER_TIME_S, "one was caused"
    assert after.total("fastun_worker_restarts_total", role=role) == n_kills
    assert max(gaps_s) < 2.0
    assert_adds_up((pair.client, pair.server))
    seen += sent_since(recording)
    assert len({each[4:16] for each in seen}) == len(set(seen)), "a counter came twice"
