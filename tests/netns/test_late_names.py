"""DNS that comes late, goes, or says no: a tunnel by name waits for it, whatever its transport.

client 192.0.2.2 ==veth== server 192.0.2.1 (vpn.example.net), 203.0.113.53 (the client's DNS)
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from fastun.host.dns import name_lookup
from fastun.host.dns.resolved import NoSuchNameError, NotYetError
from fastun.lab.host import wait_until
from fastun.lab.tunnel import (
    FASTUN,
    INTERFACE,
    SERVER_ADDRESSES,
    GatewayProcess,
    Transport,
    Tunnel,
    add_peer,
    endpoints,
)
from tests.support.name_server import NameServer
from tests.support.serve_and_dial import DNS, NAME, connect, log_of, serve, wired_with_dns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

SERVER, CLIENT = "192.0.2.1", "192.0.2.2"
KNOWN = {NAME: [SERVER]}
ANY = "0.0.0.0"  # noqa: S104 (hosts in namespaces)
WAITING = "name cannot be resolved yet; waiting for DNS"
BACK_S = 10.0  # from DNS being there to a link


@pytest.fixture
def hosts(lab: Lab) -> Iterator[tuple[Host, Host]]:
    with wired_with_dns(lab, [f"{SERVER}/24"], [f"{CLIENT}/24"]) as wired:
        yield wired


def serving(
    server: Host, tmp_path: Path, transport: Transport, address: str = ANY
) -> GatewayProcess:
    return serve(server, tmp_path, *endpoints(address, transport))


def wg_quick(there: GatewayProcess, tmp_path: Path, allowed_ips: str = "0.0.0.0/0, ::/0") -> Path:
    """Add a client on UDP by the server's name; return its file, with these AllowedIPs."""
    add_peer(there, "other", NAME)  # when it returns the directory is there
    command = [*FASTUN, "peer", "add", "client", "--format", "wg-quick"]
    command += ["--endpoint", f"udp://{NAME}"]
    text = there.host.run(*command, "--state", str(there.log_file.parent)).stdout
    file = tmp_path / "wg0.conf"
    file.touch(0o600)
    file.write_text(re.sub("AllowedIPs = .*", f"AllowedIPs = {allowed_ips}", text))
    return file


@pytest.mark.parametrize("transport", ["udp", "tcp", "both"])
def test_a_client_that_is_started_before_dns_is_there_links_when_it_is(
    hosts: tuple[Host, Host], tmp_path: Path, transport: Transport
) -> None:
    server, client = hosts
    there = serving(server, tmp_path, transport)
    here = connect(client, tmp_path, str(add_peer(there, "client", NAME, transport)))
    wait_until(lambda: WAITING in log_of(here), "the warning", timeout_s=15)
    time.sleep(1)
    here.check_alive()
    with NameServer(server, DNS, KNOWN):
        Tunnel(there, here).wait_up(BACK_S)
    assert log_of(here).count(WAITING) == 1
    assert f"name resolved  name={NAME}  addresses={SERVER}" in log_of(here)


def test_a_wg_quick_file_with_a_default_route_waits_for_dns_with_its_device_up(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    """DNS is asked by the mark: what has none goes into the tunnel, which is not up yet."""
    server, client = hosts
    there = serving(server, tmp_path, "udp")
    file = wg_quick(there, tmp_path)
    here = connect(client, tmp_path, str(file))
    wait_until(lambda: WAITING in log_of(here), "the warning", timeout_s=15)
    assert INTERFACE in client.devices()
    assert INTERFACE in client.ip("route", "get", "198.51.100.1")
    assert INTERFACE in client.ip("route", "get", DNS)
    with NameServer(server, DNS, KNOWN) as dns:
        Tunnel(there, here).wait_up(BACK_S)
        assert set(dns.asked_by) == {CLIENT}


def test_an_allowed_prefix_that_contains_what_a_name_resolves_to_does_not_take_our_own_packets(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = hosts
    server.ip("address", "add", "198.51.100.1", "dev", "lo")
    there = serving(server, tmp_path, "udp")
    allowed = "10.99.0.0/24, fd99::/64, 198.51.100.0/24"
    with NameServer(server, DNS, {NAME: ["198.51.100.1"]}):
        here = connect(client, tmp_path, str(wg_quick(there, tmp_path, allowed)))
        Tunnel(there, here).wait_up()
    assert INTERFACE in client.ip("route", "get", "198.51.100.1")
    assert INTERFACE not in client.ip("route", "get", "198.51.100.1", "mark", "51820")
    assert "leads into the tunnel" not in log_of(here)


@pytest.mark.soak
def test_behind_a_default_route_a_server_that_has_moved_is_found_by_its_name(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = hosts
    old, new = "198.51.100.1", "198.51.100.9"
    server.ip("address", "add", old, "dev", "lo")
    there = serving(server, tmp_path, "udp")
    with NameServer(server, DNS, {NAME: [old]}) as dns:
        here = connect(client, tmp_path, str(wg_quick(there, tmp_path)))
        Tunnel(there, here).wait_up()
        there.stop()
        for remembered in tmp_path.glob("*/endpoints-*"):
            remembered.unlink()  # or the server finds the client before it is looked up
        server.ip("address", "del", old, "dev", "lo")
        server.ip("address", "add", new, "dev", "lo")
        dns.hosts[NAME] = [new]
        there = serving(server, tmp_path, "udp", new)
        Tunnel(there, here).wait_up(30)
        assert set(dns.asked_by) == {CLIENT}
    assert f"name has other addresses  name={NAME}  addresses={new}" in log_of(here)


def test_names_are_looked_up_outside_where_the_dns_is_the_tunnels_own(
    hosts: tuple[Host, Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a push of DNS: the host's resolver has the tunnel's server alone."""
    server, client = hosts
    file, hosts_file = tmp_path / "resolv.conf", tmp_path / "hosts"
    monkeypatch.setattr(name_lookup, "_RESOLV_CONF", file)
    monkeypatch.setattr(name_lookup, "_HOSTS", hosts_file)
    hosts_file.write_text("192.0.2.77 Printer.example.net printer # in the hall\n")
    file.write_text(f"nameserver {DNS}\nsearch example.net\n")
    before = name_lookup.DnsFiles.read()
    file.write_text("nameserver 10.9.0.1\n")
    index = int(client.ip("link", "show", "to-server").split(":")[0])
    lookup = name_lookup.NameLookup(7, index, before, lambda: ("10.9.0.1",))
    with NameServer(server, DNS, {NAME: ["2001:db8::1", SERVER], "six.example.net": []}) as dns:

        def found(name: str) -> list[str]:
            return [str(address.host) for address in client.inside(lambda: lookup(name))]

        # There is no route to 2001:db8::1 (RFC 6724, rule 1), and "vpn" is completed.
        assert found(NAME) == found("vpn") == [SERVER, "2001:db8::1"]
        assert set(dns.asked_by) == {CLIENT}
        dns.asked_by.clear()
        assert found("printer.EXAMPLE.net") == ["192.0.2.77"]
        assert dns.asked_by == []
        for name in ("nothing.example.net", "six.example.net"):
            with pytest.raises(NoSuchNameError):
                found(name)
        dns.fails = True
        with pytest.raises(NotYetError):
            found(NAME)


@pytest.mark.parametrize("transport", [pytest.param("udp", marks=pytest.mark.soak), "both"])
def test_a_linked_client_that_loses_network_and_dns_does_not_end(
    hosts: tuple[Host, Host], tmp_path: Path, transport: Transport
) -> None:
    server, client = hosts
    there = serving(server, tmp_path, transport)
    with NameServer(server, DNS, KNOWN):
        here = connect(client, tmp_path, str(add_peer(there, "client", NAME, transport)))
        tunnel = Tunnel(there, here)
        tunnel.wait_up()
    client.ip("link", "set", "to-server", "down")
    client.run("ping", "-c", "1", "-W", "1", SERVER_ADDRESSES[0].partition("/")[0], check=False)
    time.sleep(8)  # TCP is dialled for the first time meanwhile
    here.check_alive()
    client.ip("link", "set", "to-server", "up")
    client.ip("route", "add", "default", "via", SERVER)
    tunnel.wait_up()
    assert "Traceback" not in log_of(here)


def test_a_client_that_waits_for_a_silent_resolver_ends_at_once_when_it_is_asked_to(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = hosts
    there = serving(server, tmp_path, "both")
    with NameServer(server, DNS, KNOWN) as dns:
        dns.is_silent = True
        here = connect(client, tmp_path, str(add_peer(there, "client", NAME, "both")))
        wait_until(lambda: WAITING in log_of(here), "the warning", timeout_s=15)
        assert here.get("/readyz") == (503, "no link\n")
        assert here.stop() == 0


def test_a_listen_name_is_waited_for_before_a_server_says_that_it_is_up(
    hosts: tuple[Host, Host], lab: Lab, tmp_path: Path
) -> None:
    server, client = hosts
    there = serve(client, tmp_path, *endpoints("here.example.net", "both"))
    wait_until(lambda: WAITING in log_of(there), "the warning", timeout_s=15)
    waiting = "waiting for listen.udp here.example.net, listen.tcp here.example.net\n"
    wait_until(lambda: there.get("/readyz") == (503, waiting), "all but the name", timeout_s=15)
    assert "up  " not in log_of(there)
    with NameServer(server, DNS, {"here.example.net": [CLIENT]}):
        wait_until(lambda: "up  " in log_of(there), "up", timeout_s=BACK_S)
    assert there.get("/readyz")[0] == 200
    third = lab.host("third")
    lab.wire(third, client, ["198.51.100.2/24"], ["198.51.100.1/24"])
    third.ip("route", "add", CLIENT, "via", "198.51.100.1")
    dialled: tuple[tuple[Transport, Host], ...] = (("udp", server), ("tcp", third))
    for transport, dialler in dialled:
        file = add_peer(there, transport, CLIENT, transport)
        Tunnel(there, connect(dialler, tmp_path, str(file))).wait_up()


@pytest.mark.soak
def test_a_name_that_does_not_exist_for_half_a_minute_ends_with_one_line(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = hosts
    there = serving(server, tmp_path, "both")
    with NameServer(server, DNS, {}):
        begun_s = time.monotonic()
        here = connect(client, tmp_path, str(add_peer(there, "client", NAME, "both")))
        assert here.process.wait(60) == 2
        assert time.monotonic() - begun_s > 30
    (line,) = (line for line in log_of(here).splitlines() if line.startswith("fastun: "))
    assert NAME in line
    assert "does not exist" in line
    assert "spelling" in line
