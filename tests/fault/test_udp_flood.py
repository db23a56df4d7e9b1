"""What strangers send over UDP: nothing comes back, and who belongs here is not kept out.

client, second (fastun connect)  ==== veth ==== 10.0.0.1  server (fastun serve)
stranger (UDP and raw sockets)   ==== veth ==== 10.0.9.1
  10.0.9.2, and forged: 198.18.0.0/15
"""

from __future__ import annotations

import hashlib
import itertools
import json
import operator
import os
import re
import socket
import statistics
import struct
import threading
import time
import tomllib
from base64 import b64decode
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping, iperf3, ping
from fastun.lab.tunnel import UDP_PORT, add_peer, start_gateway
from tests.netns.test_sessions import COMPRESSED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import Tunnel
    from tests.conftest import StartTunnel

TARGET = ("10.0.9.1", UDP_PORT)
FLOOD_PER_S = 20_000
FORGED, N_FORGED = "198.18.0.0/15", 50_000
INITIATION_BYTES = 148
UDP_SEGMENT = 103  # linux/udp.h
SEGMENTS = 50
ETH_P_IP = 0x0800  # what comes in, where ETH_P_ALL would have what goes out as well
ETHERNET = 14


@pytest.fixture
def stranger(lab: Lab, hosts: tuple[Host, Host]) -> Host:
    """A host with no key; answers to the addresses that it forges would come back to it."""
    server, _ = hosts
    host = lab.host("stranger")
    lab.wire(server, host, ["10.0.9.1/24"], ["10.0.9.2/24"])
    server.ip("route", "add", FORGED, "via", "10.0.9.2")
    return host


@pytest.fixture
def pair(tunnel: StartTunnel, stranger: Host) -> Tunnel:
    assert stranger  # its wire bears one of the addresses
    return tunnel(transport="udp", server_arguments=("--listen", f"udp://10.0.9.1:{UDP_PORT}"))


class Ear:
    """Hears the UDP payloads that come from the server, whomever they are for; some of many."""

    def __init__(self, host: Host) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.bind(("to-server", ETH_P_IP))
        self._socket.setblocking(False)

    def payloads(self) -> list[bytes]:
        """Everything since the last call."""
        heard = []
        while True:
            try:
                frame, (_, _, kind, *_) = self._socket.recvfrom(65536)
            except BlockingIOError:
                return heard
            ip = frame[ETHERNET:]
            is_udp = frame[12:14] == b"\x08\x00" and ip[9] == socket.IPPROTO_UDP
            if kind == socket.PACKET_HOST and is_udp:
                heard.append(ip[28:])

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(stranger: Host, pair: Tunnel) -> Iterator[Ear]:
    assert pair
    listening = Ear(stranger)
    yield listening
    listening.close()


def server_key(pair: Tunnel) -> bytes:
    file = pair.server.log_file.parent / "client.toml"
    return b64decode(tomllib.loads(file.read_text())["peer"][0]["public_key"])


def initiation(public_key: bytes | None) -> bytes:
    """Nonsense in the form of an initiation; with a key, its mac1 is valid."""
    body = struct.pack("<I", 1) + os.urandom(112)
    if public_key is None:
        return body + os.urandom(16) + bytes(16)
    key = hashlib.blake2s(b"mac1----" + public_key).digest()
    return body + hashlib.blake2s(body, key=key, digest_size=16).digest() + bytes(16)


def nonsense(public_key: bytes) -> Iterator[bytes]:
    """Datagrams that no peer would send."""
    yield b""
    for kind, length in (
        (1, 148),
        (2, 92),
        (3, 64),
        (4, 32),
        (5, 32),
        (4, 1452),
        (0, 148),
        (9, 92),
    ):
        head = struct.pack("<I", kind)
        for n_bytes in (length, length - 1, length + 1, length - 16, 4):
            yield (head + os.urandom(length))[:n_bytes]
        yield struct.pack("<I", kind | 0x100) + os.urandom(length - 4)
    yield from (os.urandom(n_bytes) for n_bytes in (1, 3, 4, 15, 16, 31, 32, 1472, 20000, 65507))
    yield from (os.urandom(int.from_bytes(os.urandom(2), "big") % 1400) for _ in range(200))
    yield from (initiation(None) for _ in range(20))
    yield from (initiation(public_key) for _ in range(20))


def forged(payload: bytes, source: str) -> bytes:
    """An IPv4 packet (the kernel fills in length and sum) with a UDP datagram without one."""
    udp = struct.pack("!HHHH", 4000, UDP_PORT, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source) + socket.inet_aton(TARGET[0])
    return struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses + udp


def forged_source(n: int) -> str:
    return f"198.18.{n // 256 % 256}.{n % 256}"


def raw_socket(host: Host) -> socket.socket:
    return host.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))


def handshake_drops(pair: Tunnel) -> dict[str, float]:
    scrape = pair.server.scrape()
    reasons = ("bad_type", "unknown_index", "bad_mac1", "handshake_flood", "cookie_sent")
    return {r: scrape.total("fastun_dropped_packets_total", reason=r) for r in reasons}


def test_nonsense_gets_no_answer_from_wherever_it_says_that_it_comes(
    pair: Tunnel, stranger: Host, ear: Ear
) -> None:
    public_key = server_key(pair)
    before = handshake_drops(pair)
    with stranger.socket(kind=socket.SOCK_DGRAM) as plain, raw_socket(stranger) as raw:
        for n, datagram in enumerate(nonsense(public_key)):
            plain.sendto(datagram, TARGET)
            if len(datagram) <= 1472:
                raw.sendto(forged(datagram, forged_source(n)), (TARGET[0], 0))
    assert ping(pair.client.host, pair.server.inner_address, n=5).n_received == 5
    time.sleep(0.5)
    assert ear.payloads() == []
    after = handshake_drops(pair)
    grown = {reason for reason, count in after.items() if count > before[reason]}
    assert {"bad_type", "unknown_index", "bad_mac1"} <= grown


class Flood:
    """Sends initiations at a steady rate until it is stopped."""

    def __init__(self, sender: socket.socket, batches: list[bytes], n_a_batch: int) -> None:
        self._sender = sender
        self._batches = itertools.cycle(batches)
        self._n_a_batch = n_a_batch
        self._stopped = threading.Event()
        self.n_sent = 0
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        while not self._stopped.wait(0.001):
            while self.n_sent < (time.monotonic() - self._started) * FLOOD_PER_S:
                self._sender.send(next(self._batches))
                self.n_sent += self._n_a_batch

    def per_second(self) -> float:
        return self.n_sent / (time.monotonic() - self._started)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._sender.close()


def flood_from_one(host: Host, messages: list[bytes]) -> Flood:
    """From one address and port; many a system call."""
    sender = host.socket(kind=socket.SOCK_DGRAM)
    sender.connect(TARGET)
    sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, INITIATION_BYTES)
    batches = [b"".join(messages[at : at + SEGMENTS]) for at in range(0, len(messages), SEGMENTS)]
    return Flood(sender, batches, SEGMENTS)


def flood_from_many(host: Host, messages: list[bytes]) -> Flood:
    """From very many addresses that are not the sender's."""
    sender = raw_socket(host)
    sender.connect((TARGET[0], 0))
    packets = [forged(messages[n % len(messages)], forged_source(n)) for n in range(N_FORGED)]
    return Flood(sender, packets, 1)


@contextmanager
def flooding(
    host: Host,
    public_key: bytes | None,
    start: Callable[[Host, list[bytes]], Flood] = flood_from_one,
) -> Iterator[Flood]:
    flood = start(host, [initiation(public_key) for _ in range(20 * SEGMENTS)])
    try:
        yield flood
    finally:
        flood.stop()


@pytest.mark.alone
@pytest.mark.parametrize(
    ("n_rounds", "least"),
    [
        pytest.param(1, 0.3, id="once"),
        pytest.param(5, 0.8, id="five times", marks=pytest.mark.soak),
    ],
)
def test_a_flood_without_our_key_costs_little_goodput(
    pair: Tunnel, stranger: Host, ear: Ear, n_rounds: int, least: float
) -> None:
    def goodput() -> float:
        client, server = pair.client, pair.server
        return iperf3(client.host, server.host, server.inner_address, duration_s=2).gbit_per_second

    before = handshake_drops(pair)["bad_mac1"]
    idle, flooded, n_sent = [], [], 0
    for _ in range(n_rounds):
        idle.append(goodput())
        with flooding(stranger, None) as flood:
            flooded.append(goodput())
        n_sent += flood.n_sent
    ratio = statistics.median(flooded) / statistics.median(idle)
    n_counted = handshake_drops(pair)["bad_mac1"] - before
    print(  # noqa: T201
        f"{n_sent} initiations: {statistics.median(flooded):.2f} of "
        f"{statistics.median(idle):.2f} Gbit/s, {ratio:.2f}; counted {n_counted:.0f}"
    )
    assert n_sent > 0.5 * FLOOD_PER_S * 2 * n_rounds
    assert 0.5 * n_sent < n_counted <= n_sent
    assert ratio > least
    assert ear.payloads() == []


def bytes_of_wire(stranger: Host) -> tuple[int, int]:
    """What the stranger has sent to the server, and what has come from there."""
    (link,) = json.loads(stranger.ip("-j", "-s", "link", "show", "to-server"))
    return link["stats64"]["tx"]["bytes"], link["stats64"]["rx"]["bytes"]


from_one_or_many = pytest.mark.parametrize(
    "flood_from",
    [
        pytest.param(flood_from_one, id="from one address"),
        pytest.param(flood_from_many, id="from forged ones"),
    ],
)


@pytest.mark.alone
@from_one_or_many
def test_a_flood_by_one_who_knows_our_key_keeps_no_other_peer_out(  # noqa: PLR0917 (fixtures)
    lab: Lab,
    tmp_path: Path,
    pair: Tunnel,
    stranger: Host,
    ear: Ear,
    flood_from: Callable[[Host, list[bytes]], Flood],
) -> None:
    """An attempt that is asked for a cookie is made again after 5 s; 11 s are for two."""
    server = pair.server
    second = lab.host("second")
    lab.wire(server.host, second, ["10.0.8.1/24"], ["10.0.8.2/24"])
    file = add_peer(server, "second", "10.0.0.1", "udp")
    second.ip("route", "add", "default", "via", "10.0.8.1")
    bytes_before = bytes_of_wire(stranger)
    with flooding(stranger, server_key(pair), flood_from) as flood:
        pinging = pair.client.host.spawn(
            "ping", "-q", "-i", "0.05", server.inner_address, stdout=(tmp_path / "ping").open("wb")
        )
        client = start_gateway(second, tmp_path, "connect", str(file), wire="wireguard")
        wait_until(lambda: second.listens(10055), "the second runs", timeout_s=15)
        started = time.monotonic()
        wait_until(lambda: answers_ping(second, server.inner_address), "it connects", timeout_s=11)
        print(f"connected after {time.monotonic() - started:.1f} s")  # noqa: T201
        time.sleep(1)
        pinging.send_signal(2)
        pinging.wait(5)
        n_per_s = flood.per_second()
    bytes_in, bytes_out = map(operator.sub, bytes_of_wire(stranger), bytes_before)
    print(f"{n_per_s:.0f} a second; {bytes_in} bytes in, {bytes_out} out", handshake_drops(pair))  # noqa: T201
    assert n_per_s > 10_000
    assert 0 < bytes_out < bytes_in
    assert {(len(each), each[:4]) for each in ear.payloads()} == {(64, b"\x03\0\0\0")}  # cookies
    (n_lost,) = re.findall(r"([\d.]+)% packet loss", (tmp_path / "ping").read_text())
    assert float(n_lost) < 5
    assert client.stop() == 0


def rekeys(pair: Tunnel) -> float:
    return pair.server.scrape().total("fastun_rekeys_total")


@pytest.mark.alone
@from_one_or_many
def test_in_a_flood_sessions_get_new_keys_by_cookies(
    monkeypatch: pytest.MonkeyPatch,
    tunnel: StartTunnel,
    stranger: Host,
    flood_from: Callable[[Host, list[bytes]], Flood],
) -> None:
    """Rekeying every 0.15 s, and trying again after 0.1 s."""
    monkeypatch.setattr(lab_tunnel, "FASTUN", COMPRESSED)
    pair = tunnel(transport="udp", server_arguments=("--listen", f"udp://10.0.9.1:{UDP_PORT}"))
    with flooding(stranger, server_key(pair), flood_from):
        time.sleep(1)
        before = rekeys(pair)
        heard = ping(pair.client.host, pair.server.inner_address, n=30, interval_s=0.05)
        wait_until(lambda: rekeys(pair) >= before + 5, "new keys, five times", timeout_s=20)
    assert heard.n_received >= 27
