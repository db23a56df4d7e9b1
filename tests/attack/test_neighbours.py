"""What comes for the tunnel's address by another interface is dropped (CVE-2019-14899's class).

server              client                                    neighbour, on the client's LAN
10.0.0.1 ==veth== 10.0.0.2 | 192.168.7.1, fd07::1 ==veth== 192.168.7.2, fd07::2
ft0 10.99.0.1 ...tunnel... ft0 10.99.0.2, fd99::2             sends to 10.99.0.2 by way of .7.1
"""

from __future__ import annotations

import json
import signal
import socket
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from fastun.host.firewall.nft import table_name
from fastun.host.firewall.own_tables import Tables
from fastun.host.firewall.strong_host import StrongHost
from fastun.host.journal.changes import NftTable
from fastun.host.journal.journal import Journal
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import INTERFACE, SERVER_ADDRESSES, add_peer, start_gateway
from tests.support.kill_all import kill_all
from tests.support.plain_peer import checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess

    Start = Callable[..., GatewayProcess]

OUTER = "10.0.0.1"
SERVER_INNER = ("10.99.0.1", "fd99::1")
CLIENT_INNER = ("10.99.0.2", "fd99::2")
SERVICE = 7777
TABLE = f"fastun_{INTERFACE}"
ALL = '["0.0.0.0/0", "::/0"]'


@pytest.fixture
def neighbour(lab: Lab, hosts: tuple[Host, Host]) -> Host:
    """A host of the client's LAN that sends what is for the tunnel to the client."""
    server, client = hosts
    neighbour = lab.host("neighbour")
    lab.wire(server, client, [f"{OUTER}/24"], ["10.0.0.2/24"])
    lab.wire(client, neighbour, ["192.168.7.1/24", "fd07::1/64"], ["192.168.7.2/24", "fd07::2/64"])
    neighbour.ip("route", "add", "10.99.0.0/24", "via", "192.168.7.1")
    neighbour.ip("-6", "route", "add", "fd99::/64", "via", "fd07::1")
    return neighbour


@pytest.fixture
def connect(hosts: tuple[Host, Host], neighbour: Host, tmp_path: Path) -> Start:
    """A function that connects the client by a file with other fields in it."""
    assert neighbour
    server, client = hosts
    serving = start_gateway(server, tmp_path, "serve", wire="wireguard", addresses=SERVER_ADDRESSES)
    file = add_peer(serving, "client", OUTER)
    lines = file.read_text().splitlines(keepends=True)

    def start(*fields: str, allowed_ips: str = "", has_address: bool = True) -> GatewayProcess:
        text = "".join(line for line in lines if has_address or not line.startswith("address"))
        text = text.replace("[interface]\n", "\n".join(["[interface]", *fields, ""]))
        if allowed_ips:
            head, _, tail = text.partition("allowed_ips = ")
            text = f"{head}allowed_ips = {allowed_ips}\n{tail.partition(chr(10))[2]}"
        file.write_text(text)
        gateway = start_gateway(client, tmp_path, "connect", str(file), wire="wireguard")
        for address in SERVER_INNER:
            wait_until(lambda a=address: answers_ping(client, a), "the tunnel", timeout_s=20)
        return gateway

    return start


@pytest.fixture
def service(hosts: tuple[Host, Host]) -> Iterator[None]:
    """Listeners on the client, which are bound to its addresses in the tunnel, and to no other."""
    with ExitStack() as stack:
        for address in CLIENT_INNER:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = stack.enter_context(hosts[1].socket(family))
            level, option = (
                (socket.IPPROTO_IPV6, 78) if ":" in address else (socket.IPPROTO_IP, 15)
            )  # FREEBIND: the address comes with the tunnel
            listener.setsockopt(level, option, 1)
            listener.bind((address, SERVICE))
            listener.listen()
        yield


def reached(source: Host) -> list[str]:
    """Return what a host reaches of the client's addresses in the tunnel: pings and services."""
    found = []
    for address in CLIENT_INNER:
        if answers_ping(source, address):
            found.append(f"ping {address}")
        with source.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as connection:
            connection.settimeout(0.5)
            if connection.connect_ex((address, SERVICE)) == 0:
                found.append(f"tcp {address}")
    return found


EVERYTHING = [f"{what} {address}" for address in CLIENT_INNER for what in ("ping", "tcp")]


def tables(host: Host) -> list[str]:
    return [line.split()[-1] for line in host.run("nft", "list", "tables").stdout.splitlines()]


def n_dropped(host: Host) -> int:
    """Return what the rules' counters say."""
    listing = json.loads(host.run("nft", "-j", "list", "table", "inet", TABLE).stdout)
    expressions = [
        part for item in listing["nftables"] for part in item.get("rule", {}).get("expr", ())
    ]
    return sum(part["counter"]["packets"] for part in expressions if "counter" in part)


@pytest.mark.parametrize("has_address", [True, False], ids=["configured", "pushed"])
@pytest.mark.usefixtures("service")
def test_a_neighbour_does_not_reach_the_tunnels_addresses_and_peers_do(
    hosts: tuple[Host, Host], neighbour: Host, connect: Start, has_address: bool
) -> None:
    server, client = hosts
    gateway = connect('table = "auto"', allowed_ips=ALL, has_address=has_address)
    wait_until(lambda: tables(client) != [], "the addresses are guarded")
    by_neighbour = reached(neighbour)
    assert by_neighbour == []
    n_packets = n_dropped(client)
    print(f"a neighbour reaches {by_neighbour}; {n_packets} packets dropped")  # noqa: T201
    assert n_packets >= 4
    assert reached(server) == EVERYTHING, "through the tunnel"
    assert reached(client) == EVERYTHING, "from the host itself"
    assert answers_ping(neighbour, "192.168.7.1")
    assert gateway.stop(timeout_s=5) == 0
    assert tables(client) == []


@pytest.mark.usefixtures("service")
def test_without_a_default_route_or_where_the_host_forwards_it_is_an_option(
    hosts: tuple[Host, Host], neighbour: Host, connect: Start
) -> None:
    client = hosts[1]
    networks = '["10.99.0.0/24", "fd99::/64"]'
    gateway = connect(allowed_ips=networks)
    assert reached(neighbour) == EVERYTHING, "as before"
    assert gateway.stop(timeout_s=5) == 0
    gateway = connect("strong_host = true", allowed_ips=networks)
    assert reached(neighbour) == []
    assert gateway.stop(timeout_s=5) == 0
    client.sysctl("net.ipv4.ip_forward", 1)
    gateway = connect('table = "auto"', allowed_ips=ALL)
    assert reached(neighbour) == [what for what in EVERYTHING if ":" not in what]
    assert "this host forwards" in "\n".join(gateway.log_tail(20))
    assert gateway.stop(timeout_s=5) == 0


def test_what_a_killed_gateway_leaves_goes_with_the_next_start(
    hosts: tuple[Host, Host], connect: Start
) -> None:
    client = hosts[1]
    gateway = connect('table = "auto"', allowed_ips=ALL)
    kill_all(client)
    gateway.stop(signal.SIGKILL)
    wait_until(lambda: INTERFACE not in client.devices(), "the device is gone")
    assert tables(client) == [TABLE]
    gateway = connect()
    assert tables(client) == []
    assert gateway.stop(timeout_s=5) == 0


@pytest.mark.parametrize("name", ["x*", "@x", "$x", 'a"b', "-a_b.c"])
def test_whatever_an_interface_is_called_it_has_a_table_of_its_own(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    host = lab.host("client")
    for device, address in ((name, "10.99.0.2/24"), ("ft0", "10.98.0.2/24")):
        host.ip("tuntap", "add", "dev", device, "mode", "tun")
        host.ip("address", "add", address, "dev", device)
        host.inside(StrongHost(device, True, Tables(Journal(tmp_path, device))).follow)
    assert tables(host) == [table_name(name), TABLE]
    listing = host.run("nft", "list", "table", "inet", table_name(name)).stdout
    assert "ip daddr 10.99.0.2" in listing.replace("{ ", "").replace(" }", "")
    host.ip("tuntap", "del", "dev", name, "mode", "tun")
    host.inside(lambda: NftTable(table_name(name), name).undo(5.0, owner_died=True))
    assert tables(host) == [TABLE]


def test_a_neighbour_that_forges_the_hosts_own_address_gets_nothing_in(
    hosts: tuple[Host, Host], neighbour: Host, connect: Start
) -> None:
    client = hosts[1]
    gateway = connect('table = "auto"', allowed_ips=ALL)
    with client.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener:
        listener.bind((CLIENT_INNER[1], SERVICE))
        listener.settimeout(1)
        for source in ("fd07::2", "fd07::1", CLIENT_INNER[1]):
            send_as(neighbour, source, CLIENT_INNER[1])
        with pytest.raises(TimeoutError):
            listener.recv(100)
        assert n_dropped(client) >= 3
        client.run("nft", "delete", "table", "inet", TABLE)
        send_as(neighbour, "fd07::1", CLIENT_INNER[1])
        assert listener.recv(100) == b"forged", "without the table it gets in"
    assert gateway.stop(timeout_s=5) == 0


def send_as(host: Host, source: str, destination: str) -> None:
    """Send a UDP datagram over IPv6 with a source that need not be the host's."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(
        socket.AF_INET6, destination
    )
    payload = b"forged"
    length = 8 + len(payload)
    # The checksum is over a pseudo-header with the length and UDP's number, and UDP's own.
    summed = ends + struct.pack(">II4H", length, socket.IPPROTO_UDP, 1000, SERVICE, length, 0)
    udp = struct.pack(">4H", 1000, SERVICE, length, checksum(summed + payload)) + payload
    header = struct.pack(">IHBB", 6 << 28, length, socket.IPPROTO_UDP, 64) + ends
    with host.inside(
        lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    ) as raw:
        raw.sendto(header + udp, (destination, 0))
