"""Malformed bytes on the wire: counted one by one, never written to the device, never a crash.

client (plain_peer.py, or fastun)  ==== veth ====  server (fastun serve)
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import PORT, GatewayProcess, start_gateway
from tests.support.plain_peer import PlainPeer, frame, udp_packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

N_MALFORMED = 100_000
GOOD_EVERY = 100
UDP_PORT = 7000
GOOD = udp_packet("10.99.0.2", "10.99.0.1", UDP_PORT, b"good")
TCP_SYN_LENGTH = 40


def super_packet(vnet: bytes, packet: bytes) -> bytes:
    return b"\x02\x00\x00\x00" + vnet + packet


def tcp_packet(payload: bytes) -> bytes:
    """An IPv4 packet with a TCP segment: enough of one for the header checks."""
    header = udp_packet("10.99.0.2", "10.99.0.1", 1, b"")[:20]
    length = struct.pack(">H", TCP_SYN_LENGTH + len(payload))
    return (
        header[:2]
        + length
        + header[4:9]
        + b"\x06"
        + header[10:]
        + bytes(12)
        + b"\x50"
        + bytes(7)
        + payload
    )


def vnet(flags: int, gso_type: int, gso_size: int, start: int, offset: int) -> bytes:
    return struct.pack("<BB5H", flags, gso_type, 0, gso_size, start, offset, 0)


# What each says, and the reason under which it has to be counted.
MALFORMED: list[tuple[str, bytes]] = [
    ("not_ip", b"\x50" + bytes(40)),  # version 5
    ("not_ip", b"\x45" + bytes(10)),  # shorter than an IPv4 header
    ("not_ip", b"\x60" + bytes(30)),  # shorter than an IPv6 header
    ("not_ip", b"\xff" * 1400),
    ("not_ip", super_packet(bytes(12), b"\x00" * 60)),
    ("bad_type", b"\x03\x00\x00\x00" + bytes(60)),  # an Ethernet frame on a TUN link
    ("bad_virtio", b"\x02"),  # no room for the header
    ("bad_virtio", super_packet(vnet(0x80, 0, 0, 0, 0), tcp_packet(b"x" * 100))),  # unknown flag
    ("bad_virtio", super_packet(vnet(1, 3, 100, 20, 16), tcp_packet(b"x" * 100))),  # unknown type
    ("bad_virtio", super_packet(vnet(1, 1, 0, 20, 16), tcp_packet(b"x" * 100))),  # size 0
    ("bad_virtio", super_packet(vnet(0, 1, 100, 20, 16), tcp_packet(b"x" * 100))),  # no checksum
    ("bad_virtio", super_packet(vnet(1, 1, 100, 20, 6), tcp_packet(b"x" * 100))),  # UDP's offset
    ("bad_virtio", super_packet(vnet(1, 1, 100, 65000, 16), tcp_packet(b"x" * 100))),  # outside
    ("bad_virtio", super_packet(vnet(1, 4, 100, 40, 16), tcp_packet(b"x" * 100))),  # v6 on v4
    ("bad_virtio", super_packet(vnet(1, 5, 1, 20, 6), tcp_packet(b"x" * 1000))),  # 1000 datagrams
]


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[tuple[GatewayProcess, Host]]:
    """A serving gateway on the plain wire, and the host to attack it from."""
    inside, outside = lab.host("server"), lab.host("client")
    lab.wire(inside, outside, ["10.0.0.1/24"], ["10.0.0.2/24"])
    gateway = start_gateway(
        inside,
        tmp_path,
        "serve",
        "--listen",
        f"tcp://10.0.0.1:{PORT}",
        addresses=["10.99.0.1/24"],
    )
    wait_until(lambda: inside.listens(PORT), "fastun listens")
    yield gateway, outside
    assert gateway.stop() == 0


def drops(gateway: GatewayProcess) -> dict[str, float]:
    scrape = gateway.scrape()
    return {
        reason: scrape.total("fastun_dropped_packets_total", role="link-reader", reason=reason)
        for reason in ("bad_length", "truncated", "bad_type", "not_ip", "bad_virtio")
    }


def assert_inbound_adds_up(gateway: GatewayProcess) -> None:
    def adds_up() -> bool:
        scrape = gateway.scrape()
        taken_in = scrape.total("fastun_packets_total", role="link-reader")
        delivered = scrape.total("fastun_packets_total", role="tun-writer")
        dropped = scrape.total("fastun_dropped_packets_total", direction="inbound")
        return taken_in == delivered + dropped

    wait_until(adds_up, "packets in = packets out + drops")


def test_100000_malformed_frames_are_counted_exactly_and_good_ones_pass(
    server: tuple[GatewayProcess, Host],
) -> None:
    gateway, outside = server
    order = random.Random(7)
    chosen = [order.choice(MALFORMED) for _ in range(N_MALFORMED)]
    expected = dict.fromkeys(drops(gateway), 0)
    for reason, _ in chosen:
        expected[reason] += 1

    receiver = gateway.host.inside(_udp_listener)
    with receiver, PlainPeer(outside, "10.0.0.1", PORT) as peer:
        peer.say_hello()
        for start in range(0, N_MALFORMED, GOOD_EVERY):
            batch = b"".join(frame(message) for _, message in chosen[start : start + GOOD_EVERY])
            peer.send(batch + frame(GOOD))
            assert receiver.recv(64) == b"good"
        wait_until(lambda: drops(gateway) == expected, f"the counters show {expected}")
        assert_inbound_adds_up(gateway)
    scrape = gateway.scrape()
    assert scrape.total("fastun_worker_restarts_total") == 0
    assert scrape.total("fastun_packets_total", role="tun-writer") == N_MALFORMED / GOOD_EVERY


def _udp_listener() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("10.99.0.1", UDP_PORT))
    listener.settimeout(10)
    return listener


BREAKS: dict[str, tuple[bytes, str]] = {
    "length 0": (b"\x00\x00", "bad_length"),
    "cut in the prefix": (b"\x00", "truncated"),
    "cut in mid-frame": (frame(GOOD)[:-1], "truncated"),
    "cut after a whole frame": (frame(GOOD) + b"\x05\xdc\x45", "truncated"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_framing_error_closes_the_link_is_counted_and_the_next_client_is_served(
    server: tuple[GatewayProcess, Host], tmp_path: Path, what: str
) -> None:
    gateway, outside = server
    data, reason = BREAKS[what]
    n_times = 20
    for _ in range(n_times):
        with PlainPeer(outside, "10.0.0.1", PORT) as peer:
            peer.say_hello()
            peer.send(data)
            if reason == "truncated":
                peer.connection.shutdown(1)
            assert peer.is_closed_by_peer()
    wait_until(lambda: drops(gateway)[reason] == n_times, f"{reason} is counted {n_times} times")
    assert sum(drops(gateway).values()) == n_times
    assert_inbound_adds_up(gateway)

    client = start_gateway(
        outside, tmp_path, "connect", f"tcp://10.0.0.1:{PORT}", addresses=["10.99.0.2/24"]
    )
    wait_until(lambda: answers_ping(outside, "10.99.0.1"), "a real client", timeout_s=15)
    assert client.stop() == 0


def send_until_closed(peer: PlainPeer, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        peer.send(data)


HELLOS: dict[str, Callable[[PlainPeer], None]] = {
    "nothing": lambda _: None,
    "length 0": lambda peer: peer.send(b"\x00\x00"),
    "an HTTP request": lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no map": lambda peer: peer.send(frame(b"\x01\x00\x00\x00\xc1")),
    "65535 bytes": lambda peer: send_until_closed(peer, frame(b"\x01" + bytes(65534))),
    "deep nesting": lambda peer: peer.send(frame(b"\x01\x00\x00\x00" + b"\x91" * 4000)),
    "wrong types": lambda peer: peer.say_hello(version="one"),
    "another mode": lambda peer: peer.say_hello(mode="tap"),
    "another version": lambda peer: peer.say_hello(version=2),
}


@pytest.mark.parametrize("what", HELLOS)
def test_a_bad_hello_is_closed_counted_and_delays_no_other(
    server: tuple[GatewayProcess, Host], what: str
) -> None:
    gateway, outside = server
    with PlainPeer(outside, "10.0.0.1", PORT) as bad, PlainPeer(outside, "10.0.0.1", PORT) as good:
        HELLOS[what](bad)
        assert good.say_hello()["mode"] == "tun"
        assert bad.is_closed_by_peer()
        good.send(frame(GOOD))
        wait_until(
            lambda: gateway.scrape().total("fastun_packets_total", role="tun-writer") == 1,
            "a good frame is delivered",
        )
        assert gateway.scrape().total("fastun_hello_failures_total") == 1


def test_a_second_client_is_refused_while_the_first_lives_and_accepted_after(
    server: tuple[GatewayProcess, Host],
) -> None:
    gateway, outside = server
    with PlainPeer(outside, "10.0.0.1", PORT) as first:
        first.say_hello()
        with PlainPeer(outside, "10.0.0.1", PORT) as second:
            assert second.is_closed_by_peer()
        assert gateway.scrape().total("fastun_connections_refused_total") == 1
        first.send(frame(GOOD))
        wait_until(
            lambda: gateway.scrape().total("fastun_packets_total", role="tun-writer") == 1,
            "the first client is not disturbed",
        )
    with PlainPeer(outside, "10.0.0.1", PORT) as third:
        third.say_hello()
