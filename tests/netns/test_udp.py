"""Tunnels over UDP: WireGuard's messages, many packets a system call; see tests/conftest.py.

client                     server                       beyond
ft0 10.99.0.2 ...tunnel... ft0 10.99.0.1
                           10.7.0.1, fd07::1 ==veth== 10.7.0.2, fd07::2
"""

from __future__ import annotations

import ctypes
import fcntl
import re
import signal
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from bench.tunnel.measures import socket_buffer_bytes
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping, iperf3, ping
from tests.netns.test_tunnel import assert_carries_everything
from tests.support.scrapes import assert_adds_up, drops, quiesced
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Scrape, Tunnel
    from tests.conftest import StartTunnel

BEYOND = ("10.7.0.2", "fd07::2")
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h
# What the host's own multicasts find before there is a session.
BEFORE_THE_SESSION = {("tun-reader", "no_peer"), ("tun-reader", "no_session")}


def udp_losses(host: Host) -> int:
    """Datagrams that found a socket's buffer full."""
    text = host.run("nstat", "-saz", "UdpRcvbufErrors", "Udp6RcvbufErrors").stdout
    return sum(int(number) for number in re.findall(r"RcvbufErrors +(\d+)", text))


def assert_arrives_exactly(sender: GatewayProcess, receiver: GatewayProcess) -> None:
    """What one side has sent the other has taken in, less what its socket had no room for.

    A TAP server counts what it floods once more, for its other peers: here there are none.
    """

    def is_exact() -> bool:  # sooner or later: a host multicasts now and then
        taken_in = receiver.scrape()
        n_taken_in = taken_in.total("fastun_packets_total", role="link-reader")
        n_taken_in -= taken_in.total("fastun_switched_packets_total")
        n_sent = sender.scrape().total("fastun_packets_total", role="link-writer")
        return n_taken_in == n_sent or (n_taken_in < n_sent and udp_losses(receiver.host) > 0)

    wait_until(is_exact, "packets sent = packets taken in")


# The other tests here are in TUN mode over IPv4.
@pytest.mark.parametrize(("mode", "outer"), [("tun", 6), ("tap", 4)])
def test_both_families_travel_inside_both_families_and_every_packet_is_accounted_for(
    tunnel: StartTunnel, mode: str, outer: int
) -> None:
    pair = tunnel(transport="udp", mode=mode, outer=outer)
    assert_carries_everything(pair)
    for one, other in ((pair.client, pair.server), (pair.server, pair.client)):
        scrape = quiesced(one)
        assert scrape.total("fastun_peer_info", transport="udp") == 1
        assert_adds_up(scrape)
        assert drops(scrape).keys() <= BEFORE_THE_SESSION
        assert_arrives_exactly(one, other)


@pytest.mark.parametrize("offload", ["gso", "udp_offload"])
def test_one_side_goes_without_offload(tunnel: StartTunnel, tmp_path: Path, offload: str) -> None:
    file = tmp_path / "without.toml"
    file.write_text(f"[interface]\n{offload} = false\n")
    pair = tunnel(transport="udp", server_arguments=("-c", str(file)))
    assert_carries_everything(pair)
    for gateway in (pair.client, pair.server):
        scrape = quiesced(gateway)
        assert_adds_up(scrape)
        assert drops(scrape).keys() <= BEFORE_THE_SESSION


def packets_a_call(before: Scrape, after: Scrape, role: str, call: str) -> float:
    n_packets, n_calls = (
        after.total(name, **labels) - before.total(name, **labels)
        for name, labels in (
            ("fastun_packets_total", {"role": role}),
            ("fastun_syscalls_total", {"role": role, "call": call}),
        )
    )
    return n_packets / n_calls


def test_a_system_call_carries_many_packets(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="udp")
    before = [gateway.scrape() for gateway in (pair.client, pair.server)]
    goodput = iperf3(pair.client.host, pair.server.host, pair.server.inner_address, duration_s=2)
    after = [gateway.scrape() for gateway in (pair.client, pair.server)]
    sent = packets_a_call(before[0], after[0], "link-writer", "sendmmsg")
    received = packets_a_call(before[1], after[1], "link-reader", "recvmmsg")
    print(  # noqa: T201
        f"{sent:.1f} packets a sendmmsg, {received:.1f} a recvmmsg, "
        f"{goodput.gbit_per_second:.2f} Gbit/s"
    )
    assert sent >= 16
    assert received >= 16
    packets, frames = (
        after[1].total(name, role="link-reader") - before[1].total(name, role="link-reader")
        for name in ("fastun_packets_total", "fastun_frames_total")
    )
    assert packets > frames, "no super-packet has come in pieces"


def test_applications_on_udp_lose_nothing_that_is_not_counted(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="udp")
    client, server, address = pair.client.host, pair.server.host, pair.server.inner_address
    for size_bytes, bits_per_second in ((64, 5e6), (1372, 1e8), (8192, 1e8)):
        for reverse in (False, True):
            result = iperf3(
                client,
                server,
                address,
                duration_s=1,
                udp_bits_per_second=bits_per_second,
                size_bytes=size_bytes,
                # Else iperf3's own socket overflows when it has to wait for a processor.
                buffer_bytes=socket_buffer_bytes(),
                reverse=reverse,
            )
            assert result.lost_percent < 1
    for one, other in ((pair.client, pair.server), (pair.server, pair.client)):
        assert_adds_up(quiesced(one))
        assert_arrives_exactly(one, other)


# -- what comes out of the tunnel -------------------------------------------------------------


def compute_checksums(host: Host, device: str) -> None:
    """Have checksums computed, and packets cut, before they reach a device that would do it."""
    off = ctypes.create_string_buffer(struct.pack("=II", ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP", device.encode(), ctypes.addressof(off))
    with host.socket(kind=socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


@pytest.fixture
def beyond(lab: Lab, hosts: tuple[Host, Host]) -> Host:
    """A host behind the server, to which packets go as they come out of the tunnel."""
    server, _ = hosts
    host = lab.host("beyond")
    lab.wire(server, host, ["10.7.0.1/24", "fd07::1/64"], ["10.7.0.2/24", "fd07::2/64"])
    compute_checksums(server, "to-beyond")
    host.ip("route", "add", "default", "via", "10.7.0.1")
    host.ip("-6", "route", "add", "default", "via", "fd07::1")
    server.sysctl("net.ipv4.ip_forward", 1)
    server.sysctl("net.ipv6.conf.all.forwarding", 1)
    return host


def captured(host: Host, file: Path, pair: Tunnel) -> list[str]:
    """What tcpdump, which checks every sum, says of what comes to a host through the tunnel."""
    client = pair.client.host
    capture = host.spawn(
        *("tcpdump", "-i", "to-server", "-Q", "in", "-s", "0", "-B", "65536"),
        *("-U", "-Z", "root", "-w", str(file)),
    )
    wait_until(lambda: file.exists() and file.stat().st_size > 0, "tcpdump captures")
    for address in BEYOND:
        wait_until(lambda to=address: answers_ping(client, to), "the pushed routes")
        assert ping(client, address, n=3, size_bytes=1000).n_received == 3
        transfer = start_transfer(client, host, address, n_bytes=5 * 10**6)
        assert transfer.result(timeout=30).is_exact
        iperf3(client, host, address, duration_s=1, udp_bits_per_second=5e6, size_bytes=333)
    capture.send_signal(signal.SIGINT)
    capture.wait(5)
    return host.run("tcpdump", "-nvv", "-r", str(file)).stdout.splitlines()


@pytest.mark.parametrize("gso", [True, False])
def test_what_comes_out_of_the_tunnel_has_only_valid_checksums(
    tunnel: StartTunnel, beyond: Host, tmp_path: Path, gso: bool
) -> None:
    """With `gso` the receiving kernel completes sums that we prepared; else they are all ours."""
    file = tmp_path / "server.toml"
    file.write_text(
        f'[interface]\ngso = {str(gso).lower()}\n[push]\nroutes = ["10.7.0.0/24", "fd07::/64"]\n'
    )
    pair = tunnel(transport="udp", server_arguments=("-c", str(file)))
    lines = captured(beyond, tmp_path / "beyond.pcap", pair)
    text = "\n".join(lines)
    assert text.count("(correct)") > 5000  # TCP
    assert text.count("udp sum ok") > 1000
    assert not [line for line in lines if re.search(r"incorrect|\bbad\b|wrong", line)]
    assert max(int(n) for n in re.findall(r"length:? (\d+)\)", text)) <= 1500
