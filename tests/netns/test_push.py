"""What a server pushes, on a client whose file says nothing itself.

client 10.1.0.2 ==veth== 10.1.0.1 server
ft0 10.99.0.2 .....tunnel..... ft0 10.99.0.1
"""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping, ping
from fastun.lab.tunnel import (
    INTERFACE,
    SERVER_ADDRESSES,
    GatewayProcess,
    add_peer,
    start_gateway,
)
from tests.support.scrapes import assert_adds_up, drops, quiesced
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import Transport

SERVER_INNER, SERVER_INNER_V6 = "10.99.0.1", "fd99::1"


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, ["10.1.0.1/24"], ["10.1.0.2/24"])
    return server, client


def start(
    hosts: tuple[Host, Host],
    directory: Path,
    transport: Transport,
    *serving: str,
    interface: str = "",
) -> tuple[GatewayProcess, GatewayProcess]:
    """Start a server, and a client that takes its address from it; `interface` is more of its."""
    server = start_gateway(
        hosts[0], directory, "serve", *serving, wire="wireguard", addresses=SERVER_ADDRESSES
    )
    wait_until(lambda: hosts[0].listens(55555), "the server listens", timeout_s=15)
    file = add_peer(server, "client", "10.1.0.1", transport)
    lines = file.read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("address"))
    file.write_text(text.replace("[interface]\n", f"[interface]\n{interface}"))
    return server, start_gateway(hosts[1], directory, "connect", str(file), wire="wireguard")


def test_an_address_that_another_interface_has_is_left_to_it(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    host = hosts[1]
    host.ip("address", "add", "10.99.0.2/32", "dev", "to-server")
    _, client = start(hosts, tmp_path, "udp")
    wait_until(lambda: answers_ping(host, SERVER_INNER_V6), "the pushed address", timeout_s=20)
    assert "10.99.0.2" not in host.ip("address", "show", "dev", INTERFACE)
    (said,) = (line for line in client.log_tail(40) if "another interface of this host" in line)
    assert "10.99.0.2/24" in said


def test_a_pushed_ipv6_address_costs_no_ipv4_where_ipv6_is_off(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    host = hosts[1]
    host.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    config = tmp_path / "push.toml"
    config.write_text('[push]\nroutes = ["fd76::/64", "172.16.9.0/24"]\n')
    _, client = start(hosts, tmp_path, "udp", "-c", str(config))
    wait_until(lambda: answers_ping(host, SERVER_INNER), "the tunnel", timeout_s=20)
    assert "172.16.9.0/24" in host.ip("route", "show", "dev", INTERFACE)
    lines = [line for line in client.log_tail(40) if "IPv6 is turned off" in line]
    for refused in ("address refused  address=fd99::2/64", "route refused  route=fd76::/64"):
        assert sum(f"pushed {refused}" in line for line in lines) == 1


# -- the MTU ----------------------------------------------------------------------------------


def mtu_of(host: Host) -> int:
    (link,) = json.loads(host.ip("-json", "link", "show", "dev", INTERFACE))
    return int(link["mtu"])


def wait_for_mtu(client: GatewayProcess, mtu: int) -> None:
    wait_until(lambda: INTERFACE in client.host.devices(), "the device", timeout_s=20)
    wait_until(lambda: mtu_of(client.host) == mtu, "the pushed MTU", timeout_s=20)
    wait_until(lambda: answers_ping(client.host, SERVER_INNER), "the tunnel", timeout_s=20)


def status_of(client: GatewayProcess) -> dict[str, object]:
    home = str(client.log_file.parent)
    command = [sys.executable, "-m", "fastun", "status", "--json", "--run-dir", home]
    answer: dict[str, object] = json.loads(client.host.run(*command).stdout)
    return answer


@pytest.mark.parametrize("mtu", [1500, 1300, 65000])
def test_over_udp_everything_follows_a_pushed_mtu(
    hosts: tuple[Host, Host], tmp_path: Path, mtu: int
) -> None:
    server, client = start(hosts, tmp_path, "udp", "--mtu", str(mtu))
    wait_for_mtu(client, mtu)
    fits = min(mtu, 1500 - 20 - 8 - 32)  # inside a path of 1500
    done = client.host.run(
        "ping", "-c1", "-W2", "-M", "do", "-s", str(fits - 28 + 1), SERVER_INNER, check=False
    )
    assert f"mtu={fits}" in (done.stderr + done.stdout).replace(" ", "")  # the kernel's, or ours
    assert ping(client.host, SERVER_INNER, n=5, size_bytes=fits - 28).n_received == 5
    for one, other in ((client, server), (server, client)):
        address = SERVER_INNER if other is server else "10.99.0.2"
        transfer = start_transfer(one.host, other.host, address, n_bytes=2 * 10**6)
        assert transfer.result(timeout=30).is_exact
    assert status_of(client)["mtu_bytes"] == mtu
    scrape = quiesced(client)
    assert_adds_up(scrape)
    assert ("link-writer", "emsgsize") not in drops(scrape)


@pytest.mark.parametrize("mtu", [1500, 1300])
def test_over_tcp_a_pushed_mtu_carries_both_ways(
    hosts: tuple[Host, Host], tmp_path: Path, mtu: int
) -> None:
    server, client = start(hosts, tmp_path, "tcp", "--mtu", str(mtu))
    wait_for_mtu(client, mtu)
    for one, other, address in ((client, server, SERVER_INNER), (server, client, "10.99.0.2")):
        transfer = start_transfer(one.host, other.host, address, n_bytes=2 * 10**6)
        assert transfer.result(timeout=30).is_exact


ETH_P_ALL, SYN, OPTION_MSS, OPTION_NOP = 3, 0x02, 2, 1


def mss_in(packet: bytes) -> int:
    """The MSS option of a SYN over IPv4; 0 where there is none."""
    tcp = packet[20:]
    if packet[0] != 0x45 or packet[9] != socket.IPPROTO_TCP or not tcp[13] & SYN:
        return 0
    options = tcp[20 : (tcp[12] >> 4) * 4]
    while options and options[0] != OPTION_MSS:
        options = options[1:] if options[0] == OPTION_NOP else options[options[1] :]
    return int.from_bytes(options[2:4]) if options else 0


def arriving(host: Host) -> socket.socket:
    """What arrives on the device of a host."""
    packets = host.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    packets.bind((INTERFACE, ETH_P_ALL))
    packets.settimeout(10)
    return packets


def arriving_mss(packets: socket.socket) -> int:
    while True:
        packet, (_, _, kind, *_) = packets.recvfrom(65535)
        if kind == socket.PACKET_HOST and (mss := mss_in(packet)):
            return mss


def test_the_mss_is_clamped_to_a_pushed_mtu_both_ways(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = start(hosts, tmp_path, "tcp", "--mtu", "1300", interface="mss_clamp = true\n")
    wait_for_mtu(client, 1300)
    for host in hosts:  # say more than the device would have them say
        host.ip("route", "change", "10.99.0.0/24", "dev", INTERFACE, "advmss", "1460")
    with (
        arriving(server.host) as at_server,
        arriving(client.host) as at_client,
        server.host.socket() as listener,
        client.host.socket() as dialling,
    ):
        listener.bind((SERVER_INNER, 7000))
        listener.listen()
        dialling.settimeout(10)
        dialling.connect((SERVER_INNER, 7000))
        assert arriving_mss(at_server) == 1300 - 40
        assert arriving_mss(at_client) == 1300 - 40
