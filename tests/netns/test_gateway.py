"""A gateway by `fastun serve --forward --masquerade` alone: the seed's way into the office.

The thirteen steps (tests/support/office.py has the hosts): the laptop's application writes (1), its
stack routes into the TUN device (2), fastun reads it (3), sends it (4) through the real network (5,
6), the gateway's fastun receives it (7) and writes its TUN device (8), the gateway forwards (9, 10)
to the office's server (11), whose answer takes the same way back (12, 13).
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from tests.support import office
from tests.support.host_state import differences, host_state
from tests.support.name_server import NameServer, resolv_conf
from tests.support.office import GATEWAY, INNER_ADDRESSES, OUTSIDE, SERVER, Office, Operator
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host

# As `iptables -L` of a host with Docker has it, whose rules are in nftables.
DOCKER = """
table ip filter {
    chain DOCKER-USER {
        counter return
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER
        oifname "docker0" ct state related,established counter accept
        iifname "docker0" oifname != "docker0" counter accept
    }
}
table ip nat {
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade
    }
}"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Office]:
    if missing := missing_capability():
        pytest.skip(missing)
    with Lab() as lab:
        yield office.build(lab, "laptop", "tablet")


@pytest.fixture
def at_gateway(hosts: Office, tmp_path: Path) -> Iterator[Operator]:
    operator = Operator(hosts.gateway, tmp_path / "gateway")
    yield operator
    _end(hosts)


@pytest.fixture
def at_laptop(hosts: Office, tmp_path: Path) -> Operator:
    return Operator(hosts.laptop, tmp_path / "laptop")


def _end(hosts: Office) -> None:
    for host in (*hosts.laptops, hosts.gateway):
        for process in host.processes:
            if process.poll() is None:
                process.terminate()
                process.wait(15)
        host.processes.clear()


def answers(host: Host, address: str, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answers_ping(host, address):
            return True
    return False


WITH_DNS = """
[interface]
address = ["10.55.0.1/24", "fd55::1/64"]
[push]
dns = ["172.16.9.53", "corp.example"]
"""


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_two_commands_at_the_gateway_and_one_at_the_laptop_lead_everywhere(
    hosts: Office, at_gateway: Operator, at_laptop: Operator, tmp_path: Path, scheme: str
) -> None:
    with resolv_conf(hosts.laptop, "192.0.2.1") as file:
        before = host_state(hosts.gateway), host_state(hosts.laptop, file)
        serving = at_gateway.start("serve", "--forward", "--masquerade", *INNER_ADDRESSES)
        client = office.add_laptop(at_gateway, tmp_path, "laptop", f"{scheme}://{GATEWAY[4]}")
        both = (serving, at_laptop.start("connect", str(client), "--all"))
        for version, address in SERVER.items():
            assert answers(hosts.laptop, address), version
            dropped = [each.scrape().dropped() for each in both]  # before there was a link
            moved = start_transfer(hosts.laptop, hosts.server, address, n_bytes=20 * 10**6)
            assert moved.result(60).is_exact
            # And the rest of the world, which sees the gateway.
            with connection(hosts.laptop, hosts.internet, OUTSIDE[version]) as (_, accepted):
                assert accepted.getpeername()[0] == GATEWAY[version]
            assert [each.scrape().dropped() for each in both] == dropped
        carried = both[1].scrape().total("fastun_bytes_total", role="link-writer")
        assert carried > 40 * 10**6, "it was the tunnel"
        # Nothing else has reached the office: its hosts have no way out but by the gateway.
        assert hosts.server.ip("route", "show", "default") == ""
        assert [len(at_gateway.commands), len(at_laptop.commands)] == [2, 1]
        assert serving.stop() == 0
        _end(hosts)
        assert differences(before[0], host_state(hosts.gateway)) == []
        assert differences(before[1], host_state(hosts.laptop, file)) == []


def test_names_of_the_office_are_looked_up_there(
    hosts: Office, at_gateway: Operator, at_laptop: Operator, tmp_path: Path
) -> None:
    names = {"files.corp.example": [SERVER[4]]}
    with resolv_conf(hosts.laptop, "192.0.2.1") as file:
        at_home = file.read_text()
        (tmp_path / "gateway.toml").write_text(WITH_DNS)
        serving = at_gateway.start(
            "serve", "--forward", "--masquerade", "-c", str(tmp_path / "gateway.toml")
        )
        client = office.add_laptop(at_gateway, tmp_path)
        connected = at_laptop.start("connect", str(client), "--all")
        with NameServer(hosts.dns, office.DNS[4], names) as dns:
            wait_until(lambda: office.DNS[4] in file.read_text(), "DNS of the office")
            found = hosts.laptop.run("getent", "ahostsv4", "files").stdout
            assert SERVER[4] in found
            assert set(dns.asked_by) == {office.GATEWAY_IN_OFFICE[4]}
        assert connected.stop() == 0
        assert file.read_text() == at_home
        assert serving.stop() == 0


def test_what_another_program_drops_is_said_with_the_command_that_helps(
    hosts: Office, at_gateway: Operator, at_laptop: Operator, tmp_path: Path
) -> None:
    gateway = hosts.gateway
    gateway.run("nft", DOCKER)
    try:
        before = host_state(gateway)
        serving = at_gateway.start("serve", "--forward", "--masquerade", *INNER_ADDRESSES)
        at_laptop.start("connect", str(office.add_laptop(at_gateway, tmp_path)))
        wait_until(lambda: serving.get("/readyz")[0] == 503, "readyz says so")
        said = serving.get("/readyz")[1]
        assert "ip filter FORWARD drops what is to be forwarded; run 'iptables -I DOCKER-" in said
        assert said.strip() in serving.log_file.read_text()
        assert "DOCKER-USER -i fastun0 -j ACCEPT" in at_gateway.run("status")
        assert not answers_ping(hosts.laptop, SERVER[4])
        # What the two commands of the line do.
        for side in ("iifname", "oifname"):
            rule = ("filter", "DOCKER-USER", side, "fastun0", "accept")
            gateway.run("nft", "insert", "rule", "ip", *rule)
        assert answers(hosts.laptop, SERVER[4])
        wait_until(lambda: serving.get("/readyz")[0] == 200, "ready", timeout_s=15)
        assert "nothing is in the way of forwarding any more" in serving.log_file.read_text()
        gateway.run("nft", "flush chain ip filter DOCKER-USER")
        gateway.run("nft", "add rule ip filter DOCKER-USER counter return")

        serving.process.kill()
        serving.process.wait()
        again = at_gateway.start("serve", "--forward", "--masquerade", *INNER_ADDRESSES)
        assert again.stop() == 0
        assert differences(before, host_state(gateway)) == []
    finally:
        gateway.run("nft", "flush ruleset")


def test_peers_and_networks_that_are_not_allowed_are_answered_at_once(
    hosts: Office, at_gateway: Operator, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        "[interface]\naddress = ['10.55.0.1/24', 'fd55::1/64']\n"
        "[forward]\nmasquerade = true\npeers = false\nto = ['172.16.9.2/32', 'fd09::2/128']\n"
    )
    serving = at_gateway.start("serve", "-c", str(file))
    for host in hosts.laptops:
        client = office.add_laptop(at_gateway, tmp_path, host.name)
        Operator(host, tmp_path / host.name).start("connect", str(client))
    laptop, tablet = hosts.laptops
    for version, inner in {4: "10.55.0.3", 6: "fd55::3"}.items():
        assert answers(laptop, SERVER[version])
        refused = laptop.run("ping", "-c1", "-W2", inner, check=False).stdout
        assert "Packet filtered" in refused or "Administratively prohibited" in refused
        laptop.ip("route", "add", f"{office.DNS[version]}", "dev", "fastun0")
        assert not answers_ping(laptop, office.DNS[version])
    assert answers(tablet, SERVER[4])
    # The office cannot reach the laptop by itself, but from the address that is allowed.
    for host in (hosts.server, hosts.dns):
        host.ip("route", "add", "10.55.0.0/24", "via", office.GATEWAY_IN_OFFICE[4])
    assert answers(hosts.server, "10.55.0.2")
    assert not answers_ping(hosts.dns, "10.55.0.2")
    for host in (hosts.server, hosts.dns):
        host.ip("route", "del", "10.55.0.0/24")
    assert serving.stop() == 0


def test_the_first_of_two_gateways_to_stop_does_not_take_forwarding_from_the_second(
    hosts: Office, at_gateway: Operator, at_laptop: Operator, tmp_path: Path
) -> None:
    before = host_state(hosts.gateway)
    first = at_gateway.start("serve", "--forward", "--masquerade", *INNER_ADDRESSES)
    beside = Operator(hosts.gateway, tmp_path / "beside")
    second = beside.start(*_second())
    file = office.add_laptop(beside, tmp_path, "laptop", f"udp://{GATEWAY[4]}:51821")
    at_laptop.start("connect", str(file))
    assert answers(hosts.laptop, SERVER[4])
    assert first.stop() == 0
    for address in SERVER.values():
        assert answers(hosts.laptop, address)
    assert second.stop() == 0
    assert differences(before, host_state(hosts.gateway)) == []


def _second() -> list[str]:
    return [
        *("serve", "--forward", "--masquerade", "-i", "fastun1", "--metrics", "off"),
        *("--address", "10.56.0.1/24", "--address", "fd56::1/64", "--listen", "udp://[::]:51821"),
    ]


def test_connections_fit_the_narrower_of_the_two_ways(
    hosts: Office, at_gateway: Operator, at_laptop: Operator, tmp_path: Path
) -> None:
    at_gateway.start("serve", "--forward", "--masquerade", *INNER_ADDRESSES)
    at_laptop.start("connect", str(office.add_laptop(at_gateway, tmp_path)))
    hosts.gateway.ip("link", "set", "to-lan", "mtu", "1300")  # of which the two ends know nothing
    try:
        for version, address in SERVER.items():
            assert answers(hosts.laptop, address)
            headers = {4: 40, 6: 60}[version]
            assert max(segment_sizes(hosts.laptop, hosts.server, address)) <= 1300 - headers
    finally:
        hosts.gateway.ip("link", "set", "to-lan", "mtu", "1500")


def segment_sizes(laptop: Host, server: Host, address: str) -> list[int]:
    """Return how long the segments of a connection may be that each of its ends sends."""
    with connection(laptop, server, address) as ends:
        return [end.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for end in ends]


@contextlib.contextmanager
def connection(
    laptop: Host, server: Host, address: str
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield the two ends of a connection."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with server.socket(family) as listener, laptop.socket(family) as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, 5310))
        listener.listen(1)
        listener.settimeout(5)
        client.settimeout(5)
        client.connect((address, 5310))
        accepted, _ = listener.accept()
        with accepted:
            yield client, accepted


def test_the_host_is_not_a_router_for_its_neighbours(
    hosts: Office, at_gateway: Operator, at_laptop: Operator, tmp_path: Path
) -> None:
    serving = at_gateway.start("serve", "--forward", "--masquerade", *INNER_ADDRESSES)
    at_laptop.start("connect", str(office.add_laptop(at_gateway, tmp_path)))
    assert answers(hosts.laptop, SERVER[4])
    hosts.internet.ip("route", "add", "172.16.9.0/24", "via", GATEWAY[4])
    hosts.server.ip("route", "add", "198.51.100.0/24", "via", office.GATEWAY_IN_OFFICE[4])
    try:
        assert not answers_ping(hosts.internet, SERVER[4])
        hosts.gateway.sysctl("net.ipv4.ip_forward", 1)  # now it is an administrator's wish
        assert answers(hosts.internet, SERVER[4], timeout_s=10)
        assert serving.stop() == 0
        assert answers(hosts.internet, SERVER[4]), "and stays so"
    finally:
        hosts.gateway.sysctl("net.ipv4.ip_forward", 0)
        hosts.internet.ip("route", "del", "172.16.9.0/24")
        hosts.server.ip("route", "del", "198.51.100.0/24")


def test_what_others_turn_off_is_on_again_and_a_late_interface_is_masqueraded(
    hosts: Office, at_gateway: Operator, at_laptop: Operator, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        "[interface]\naddress = ['10.55.0.1/24']\n[forward]\nmasquerade = ['to-lan', 'late0']\n"
    )
    gateway = hosts.gateway
    serving = at_gateway.start("serve", "-c", str(file))
    at_laptop.start("connect", str(office.add_laptop(at_gateway, tmp_path)))
    assert answers(hosts.laptop, SERVER[4])
    wait_until(lambda: "waiting for interface late0" in serving.get("/readyz")[1], "readyz")
    gateway.sysctl("net.ipv4.conf.all.forwarding", 0)  # of all interfaces
    gateway.run("nft", "delete table inet fastun_fastun0_forward")
    assert answers(hosts.laptop, SERVER[4], timeout_s=10)
    gateway.ip("address", "add", "172.16.10.1/24", "dev", "to-lan")
    said = "clients get routes to new networks"
    wait_until(lambda: said in serving.log_file.read_text(), said, timeout_s=15)
    gateway.ip("address", "del", "172.16.10.1/24", "dev", "to-lan")
    assert '"172.16.10.0/24"' in at_gateway.run("peer", "add", "tablet")
    gateway.ip("tuntap", "add", "late0", "mode", "tun")
    try:
        wait_until(lambda: serving.get("/readyz")[0] == 200, "ready")
    finally:
        gateway.ip("link", "del", "late0")
    assert serving.stop() == 0
