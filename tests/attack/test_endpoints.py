"""What leads a peer's endpoint, or our own packets, into the tunnel: neither goes round.

client (fastun connect, or one with a key that keeps to nothing)  ==== veth ==== 10.0.0.1  server
"""

from __future__ import annotations

import base64
import json
import socket
import struct
import time
import tomllib
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import PORT, UDP_PORT
from fastun.session import keys, noise
from tests.fault.test_server_restart import restart
from tests.fault.test_udp_flood import raw_socket
from tests.support.known_at import add_known_peer
from tests.support.roaming_client import RoamingClient, udp_packet

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.tunnel import GatewayProcess, Transport
    from tests.conftest import StartTunnel

N_PINGS = 20
PING_BYTES = 100  # a data message with less is a keepalive
FEW = 12  # keepalives, handshakes, neighbour discovery: what goes on beside


def went(host: Host, device: str) -> int:
    (link,) = json.loads(host.ip("-s", "-j", "link", "show", device))
    return int(link["stats64"]["tx"]["packets"])


def pings(host: Host, address: str) -> int:
    """Send them, whether or not there is an answer; return how many came."""
    done = host.run(
        "ping", "-n", "-q", "-c", str(N_PINGS), "-i", "0.02", "-W", "1", address, check=False
    )
    return int(done.stdout.split(" received")[0].split()[-1])


def dropped(gateway: GatewayProcess, reason: str) -> int:
    return int(gateway.scrape().total("fastun_dropped_packets_total", reason=reason))


def logged(gateway: GatewayProcess, text: str) -> list[str]:
    return [line for line in gateway.log_tail(1000) if text in line]


def led_inside(gateway: GatewayProcess) -> list[str]:
    return logged(gateway, "leads into the tunnel itself (ft0)")


def ping_hostile(server: Host, client: RoamingClient) -> tuple[int, int]:
    """Ping it, who does not answer; return packets to all clients and through the device."""
    before, n_frames = went(server, "to-client"), went(server, "ft0")
    pings(server, client.inner)
    n_outer, n_inner = went(server, "to-client") - before, went(server, "ft0") - n_frames
    print(f"{N_PINGS} pings: {n_outer} outer packets, {n_inner} through the device")  # noqa: T201
    return n_outer, n_inner


def send_from_inside(
    client: RoamingClient, host: Host, source: str = "10.99.0.77", port: int = 0
) -> None:
    """Send a datagram beside the tunnel, whose forged source is inside; the host is given it."""
    host.ip("address", "replace", f"{source}/32", "dev", "lo")
    host.ip("route", "add", "10.0.0.1/32", "dev", "to-server", "src", source)
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
        forger.bind((source, port))
        forger.sendto(client.seal(), ("10.0.0.1", UDP_PORT))
    host.ip("route", "del", "10.0.0.1/32", "dev", "to-server")


def test_a_client_that_comes_from_inside_the_tunnel_moves_no_endpoint(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="udp")
    server = pair.server.host
    for scope in ("all", "to-client"):
        server.sysctl(f"net.ipv4.conf.{scope}.rp_filter", 0)  # lets forged sources in
    file = add_known_peer(pair.server, "hostile", "10.0.0.1", "udp")
    with RoamingClient(pair.client.host, file, "10.0.0.1") as client:
        client.send(client.seal())
        wait_until(lambda: bool(logged(pair.server, "peer=hostile")), "the hostile client is up")
        for _ in range(3):
            client.send_through_tunnel(client.seal(), "10.0.0.1")
        wait_until(lambda: dropped(pair.server, "inside_tunnel") == 3, "three dropped")
        n_outer, n_inner = ping_hostile(server, client)
        client.socket.setblocking(False)
        n_came = sum(len(message) > PING_BYTES for message in iter(client.received, b""))
        send_from_inside(client, pair.client.host)
        time.sleep(1.2)  # the gateway looks where its peers are twice a second
        n_outer_then, n_inner_then = ping_hostile(server, client)
    assert max(n_outer, n_outer_then, n_inner, n_inner_then) <= N_PINGS + FEW
    assert n_came == N_PINGS
    assert not logged(pair.server, "roamed")
    assert pings(pair.client.host, pair.server.inner_address) == N_PINGS


@pytest.mark.parametrize("n_lanes", [1, 4])
def test_what_a_forged_source_leads_back_into_the_device_goes_round_once(
    tunnel: StartTunnel, n_lanes: int
) -> None:
    """Of several lanes the kernel gives what comes back to any, not to that which has sealed it."""
    pair = tunnel(transport="udp", server_arguments=("--lanes", str(n_lanes)))
    server, host = pair.server.host, pair.client.host
    for scope in ("all", "to-client"):
        server.sysctl(f"net.ipv4.conf.{scope}.rp_filter", 0)  # lets forged sources in
    file = add_known_peer(pair.server, "hostile", "10.0.0.1", "udp")
    n_frames = []
    with RoamingClient(host, file, "10.0.0.1") as client:
        for n in range(6):
            client.send(client.seal())
            time.sleep(1.2)  # the gateway looks where its peers are twice a second
            send_from_inside(client, host, client.inner, 4000 + n)
            before = went(server, "ft0")
            flood = ("-i", "0.002", "-c", str(N_PINGS), "-W", "1", client.inner)
            server.run("ping", "-n", "-q", *flood, check=False)
            n_frames.append(went(server, "ft0") - before)
    print(f"{N_PINGS} pings each, through the device: {n_frames}")  # noqa: T201
    assert max(n_frames) <= 2 * N_PINGS + FEW


def test_who_is_on_the_path_leads_no_endpoint_to_port_0_nor_spoils_what_is_remembered(
    tunnel: StartTunnel, tmp_path: Path
) -> None:
    """What is authentic can be sent on from any port; the last places of all are in one file."""
    pair = tunnel(transport="udp")
    server, host = pair.server, pair.client.host
    file = add_known_peer(server, "caught", "10.0.0.1", "udp")
    with RoamingClient(host, file, "10.0.0.1") as client, raw_socket(host) as path:
        packet = udp_packet("10.0.0.2", "10.0.0.1", UDP_PORT, client.seal())
        path.sendto(packet[:20] + bytes(2) + packet[22:], ("10.0.0.1", 0))
        wait_until(lambda: dropped(server, "no_sender") == 1, "it is dropped")
        pings(server.host, client.inner)
        client.socket.setblocking(False)
        n_came = sum(len(message) > PING_BYTES for message in iter(client.received, b""))
    assert server.stop() == 0
    again = restart(pair, tmp_path, "udp")
    wait_until(lambda: bool(logged(again, "calling the clients that were here")), "it calls")
    assert again.stop() == 0
    assert not logged(again, "damaged")
    assert n_came == N_PINGS


@pytest.mark.parametrize(
    ("transport", "mode", "outer"),
    [("udp", "tun", 4), ("udp", "tap", 6), ("tcp", "tun", 4)],
)
def test_a_route_that_leads_our_packets_inside_is_logged_once_and_multiplies_nothing(
    tunnel: StartTunnel, transport: Transport, mode: str, outer: int
) -> None:
    pair = tunnel(transport=transport, mode=mode, outer=outer)
    client, there = pair.client.host, "10.0.0.1/32" if outer == 4 else "fd00::1/128"
    before, n_frames = went(client, "to-server"), went(client, "ft0")
    hop = ("via", pair.server.inner_address_v6 if outer == 6 else pair.server.inner_address)
    client.ip("route", "add", there, *(hop if mode == "tap" else ()), "dev", "ft0")
    pings(client, pair.server.inner_address)
    n_outer, n_inner = went(client, "to-server") - before, went(client, "ft0") - n_frames
    print(f"{N_PINGS} pings: {n_outer} outer packets, {n_inner} through the device")  # noqa: T201
    assert n_outer <= FEW
    assert n_inner <= 2 * N_PINGS + FEW
    wait_until(lambda: len(led_inside(pair.client)) == 1, "a warning")
    if transport == "udp":
        time.sleep(1.2)  # the gateway looks where its peers are twice a second
        pings(client, pair.server.inner_address)
        assert dropped(pair.client, "inside_tunnel") > 0
    client.ip("route", "del", there, "dev", "ft0")
    wait_until(lambda: answers_ping(client, pair.server.inner_address), "the way back", timeout_s=8)
    assert len(led_inside(pair.client)) == 1
    wait_until(
        lambda: bool(logged(pair.client, "outside the tunnel again")), "a line", timeout_s=12
    )


def an_initiation(server: GatewayProcess) -> bytes:
    """A stranger's, which is looked at only after where the connection comes from."""
    file = tomllib.loads((server.log_file.parent / "client.toml").read_text(encoding="utf-8"))
    stranger = keys.pair_of(keys.generate_private())
    message, _ = noise.initiate(stranger, base64.b64decode(file["peer"][0]["public_key"]))
    return struct.pack(">H", len(message)) + message


def test_a_connection_that_comes_through_the_tunnel_becomes_no_link(tunnel: StartTunnel) -> None:
    listen = ("--listen", f"tcp://[::]:{PORT + 1}")
    pair = tunnel(transport="tcp", server_arguments=listen)
    refused, client = "fastun_connections_refused_total", pair.client.host
    before = pair.server.scrape().total(refused)
    initiation = an_initiation(pair.server)
    for family, address, port in (
        (socket.AF_INET, pair.server.inner_address, PORT + 1),
        (socket.AF_INET6, pair.server.inner_address_v6, PORT + 1),
    ):
        with client.socket(family) as connection:
            connection.settimeout(5)
            connection.connect((address, port))
            connection.sendall(initiation)
            assert connection.recv(1) == b""
    assert pair.server.scrape().total(refused) == before + 2
    assert answers_ping(client, pair.server.inner_address)
