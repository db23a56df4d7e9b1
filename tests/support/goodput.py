"""Goodput before and after, on a machine that has other work, in short rounds."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastun.lab.traffic import iperf3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.tunnel import Tunnel

OUTER = "10.0.0.1"
ROUNDS_MAX = 6
_UDP_SEGMENT = 103  # linux/udp.h
_SEGMENT, _SEGMENTS = 1000, 40


@dataclass(frozen=True)
class Goodput:
    """Bit/s from the server to the client, through the tunnel and beside it."""

    tunnel: float
    bare: float

    def kept_of(self, before: Goodput) -> float:
        """Return the part that is left: as such, or beside what the machine has left."""
        left = self.tunnel / before.tunnel
        return max(left, left * before.bare / self.bare if self.bare else 0.0)


def usual(pair: Tunnel) -> Goodput:
    """Return that of one second each."""
    return Goodput(_one_second(pair, pair.server.inner_address), _one_second(pair, OUTER))


def after(pair: Tunnel, before: Goodput, kept: float) -> Goodput:
    """Return that of the first second in which `kept` of it is left, or the last of six."""
    now = Goodput(0.0, 0.0)
    for _ in range(ROUNDS_MAX):
        now = Goodput(_one_second(pair, pair.server.inner_address), 0.0)
        if now.kept_of(before) >= kept:
            break
        now = Goodput(now.tunnel, _one_second(pair, OUTER))
        if now.kept_of(before) >= kept:
            break
    return now


def _one_second(pair: Tunnel, address: str) -> float:
    hosts = pair.client.host, pair.server.host
    return iperf3(*hosts, address, duration_s=1, reverse=True).bits_per_second


@contextmanager
def busy(source: Host, addresses: list[str]) -> Iterator[None]:
    """Send trains of datagrams from `source` to inner addresses, some thousand a second."""
    senders = [source.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in addresses]
    stopped = threading.Event()

    def run() -> None:
        train = bytes(_SEGMENT * _SEGMENTS)
        while not stopped.is_set():
            for sender in senders:
                try:
                    sender.send(train)
                except OSError:  # "unreachable", while a session is made
                    continue
            time.sleep(0.005)

    for sender, address in zip(senders, addresses, strict=True):
        sender.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT)
        sender.connect((address, 9))
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        for sender in senders:
            sender.close()
