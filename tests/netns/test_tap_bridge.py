"""A server whose TAP device is a port of the office's bridge, and two peers.

    office 192.168.5.2 --- br0 192.168.5.1 (server) --- ft0 ... peer N 192.168.5.(10 + N)

The bridge is not there when the server starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from tests.support import dhcp
from tests.support.tap_network import TapNetwork, frame, heard, mac_of, raw_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host

BRIDGE, OFFICE = "192.168.5.1", "192.168.5.2"


class Office:
    """The server, its peers, and the host behind the bridge."""

    def __init__(self, network: TapNetwork, host: Host) -> None:
        self.network, self.host = network, host
        self.server = network.server.host

    def is_port(self) -> bool:
        return "master br0" in self.server.ip("link", "show", "dev", "ft0")

    def says(self, text: str) -> bool:
        return any(text in line for line in self.network.server.log_tail(100))

    def make_bridge(self) -> None:
        self.server.ip("link", "add", "br0", "type", "bridge")
        self.server.ip("address", "add", f"{BRIDGE}/24", "dev", "br0")
        self.server.ip("link", "set", "br0", "up")
        self.server.ip("link", "set", "to-office", "master", "br0")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    directory = tmp_path_factory.mktemp("bridge")
    file = directory / "server.toml"
    file.write_text('[interface]\nbridge = "br0"\n')
    with Lab() as lab:
        network = TapNetwork(
            *(lab, directory, ("udp", "tcp"), ("-c", str(file))), addresses=(), inner="192.168.5"
        )
        host = lab.host("office")
        lab.wire(network.server.host, host, (), [f"{OFFICE}/24"])
        yield Office(network, host)
        for gateway in (network.server, *network.peers):
            print(f"--- {gateway.host.name}", *gateway.log_tail(20), sep="\n")  # noqa: T201


def test_a_bridge_that_is_not_there_is_waited_for_and_joined(office: Office) -> None:
    assert office.says("not a port of the bridge")
    status, reason = office.network.server.get("/readyz")
    assert status == 503
    assert "not a port of bridge br0" in reason
    office.make_bridge()
    wait_until(office.is_port, "it has joined")
    wait_until(lambda: office.says("the bridge is there now"), "the log says so")
    wait_until(lambda: office.network.server.get("/readyz")[0] == 200, "ready")


def test_hosts_behind_the_bridge_and_peers_reach_each_other(office: Office) -> None:
    one, other = (peer.host for peer in office.network.peers)
    wait_until(lambda: answers_ping(one, OFFICE), "the office answers")
    assert answers_ping(other, OFFICE)
    assert answers_ping(other, BRIDGE)
    assert answers_ping(one, "192.168.5.12")
    assert answers_ping(office.host, "192.168.5.11")
    # The office's address is known to be on our side: no other peer hears what is for it.
    with raw_socket(other) as listener, raw_socket(one) as out:
        listener.settimeout(0.3)
        out.send(frame(mac_of(office.host, "to-server"), mac_of(one), b"for the office"))
        assert not heard(listener, b"for the office")


def test_a_peer_gets_an_address_by_dhcp_from_behind_the_bridge(
    office: Office, tmp_path: Path
) -> None:
    peer = office.network.peers[0].host
    options = {"subnet": "255.255.255.0", "router": OFFICE, "dns": OFFICE}
    with (
        dhcp.server(office.host, "to-server", tmp_path, "192.168.5.77", **options),
        dhcp.client(peer, "ft0", tmp_path) as lease,
    ):
        handed = {name: lease[name] for name in ("ip", "subnet", "router", "dns", "serverid")}
    assert handed == {"ip": "192.168.5.77", "serverid": OFFICE, **options}


def test_it_is_put_back_when_another_program_removes_it(office: Office) -> None:
    office.server.ip("link", "set", "ft0", "nomaster")
    wait_until(office.is_port, "it is back")
    wait_until(
        lambda: office.says("its place in bridge br0 was removed by another program"), "said"
    )
    scrape = office.network.server.scrape()
    assert scrape.total("fastun_host_repairs_total", kind="bridge") == 1


def test_no_peer_can_have_the_bridges_address(office: Office) -> None:
    thief = office.network.peers[1].host
    before = office.network.drops("bad_source")
    with raw_socket(thief) as out:

        def is_dropped() -> bool:  # the address is the bridge's own since a moment ago
            out.send(frame(b"\xff" * 6, mac_of(office.server, "br0")))
            return office.network.drops("bad_source") > before

        wait_until(is_dropped, "it is dropped")


def test_a_bridge_that_is_made_anew_is_joined_again(office: Office) -> None:
    office.server.ip("link", "delete", "br0")
    wait_until(lambda: office.network.server.get("/readyz")[0] == 503, "noticed")
    office.make_bridge()
    wait_until(office.is_port, "it has joined again")
    wait_until(
        lambda: answers_ping(office.network.peers[0].host, OFFICE), "the office", timeout_s=15
    )
