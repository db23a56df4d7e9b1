"""A NAT whose mapping leads nowhere any more: only another source port gets out.

client 10.1.0.2 ==veth== 10.1.0.1 router 198.51.100.1, then .2 ==veth== 198.51.100.9 server
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fastun.lab.tunnel import UDP_PORT, Tunnel, add_peer
from tests.support.compressed_time import gateway_with
from tests.support.serve_and_dial import connect, log_of, serve
from tests.support.transfer import probing

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

SERVER, FIRST, SECOND = "198.51.100.9", "198.51.100.1", "198.51.100.2"

# A gateway that misses an answer after 3 s instead of 12, and asks again each 0.5 s.
IMPATIENT = gateway_with(
    keepalive_timeout_s=2.0, answer_time_s=1.0, rekey_timeout_s=0.5, jitter_s=0.01
)


def translate(router: Host, to: str) -> None:
    """Send what comes from the client on from this address. Old connections keep theirs."""
    router.run("nft", "add", "table", "ip", "nat")
    hook = "{ type nat hook postrouting priority 100; }"
    router.run("nft", "add", "chain", "ip", "nat", "out", hook)
    router.run("nft", "flush", "chain", "ip", "nat", "out")
    router.run(*f"nft add rule ip nat out oifname to-server snat to {to}".split())


def forget(server: Host, address: str) -> None:
    """Take nothing from an address that was given to another customer."""
    server.run("nft", "add", "table", "ip", "hole")
    hook = "{ type filter hook input priority 0; }"
    server.run("nft", "add", "chain", "ip", "hole", "input", hook)
    server.run(*f"nft add rule ip hole input ip saddr {address} drop".split())


@dataclass
class Office:
    """A client behind a router, whose address changes; what comes to its old one is lost."""

    client: Host
    router: Host
    server: Host
    tunnel: Tunnel

    def change_address(self) -> None:
        self.router.ip("address", "del", f"{FIRST}/24", "dev", "to-server")
        self.router.ip("address", "add", f"{SECOND}/24", "dev", "to-server")
        translate(self.router, SECOND)
        forget(self.server, FIRST)

    def check_log(self) -> None:
        assert f"roamed  peer=client  remote={SECOND}" in log_of(self.tunnel.server)
        log = log_of(self.tunnel.client)
        assert log.count("trying another source port") == 1


@pytest.fixture
def office(lab: Lab, tmp_path: Path, is_impatient: bool) -> Office:
    client, router, server = lab.host("client"), lab.host("router"), lab.host("server")
    lab.wire(client, router, ["10.1.0.2/24"], ["10.1.0.1/24"])
    lab.wire(router, server, [f"{FIRST}/24"], [f"{SERVER}/24"])
    router.sysctl("net.ipv4.ip_forward", 1)
    client.ip("route", "add", "default", "via", "10.1.0.1")
    translate(router, FIRST)
    program = IMPATIENT if is_impatient else ()
    there = serve(server, tmp_path, f"udp://{SERVER}:{UDP_PORT}")
    file = add_peer(there, "client", SERVER, "udp")
    if is_impatient:
        file.write_text(file.read_text().replace("keepalive = 25", "keepalive = 3"))
    here = connect(client, tmp_path, str(file), program=program)
    tunnel = Tunnel(there, here)
    tunnel.wait_up()
    return Office(client, router, server, tunnel)


@pytest.mark.parametrize(
    ("is_impatient", "limit_s"),
    [(True, 20), pytest.param(False, 60, marks=pytest.mark.soak)],
)
@pytest.mark.parametrize("is_idle", [False, True])
def test_a_mapping_that_leads_nowhere_is_left_by_another_source_port(
    office: Office,
    is_impatient: bool,  # noqa: ARG001
    limit_s: float,
    is_idle: bool,
) -> None:
    """An idle client is reached by the server again; it notices by its own keepalives."""
    ends = (office.client, office.server, office.tunnel.server.inner_address)
    if is_idle:
        ends = (office.server, office.client, office.tunnel.client.inner_address)
    with probing(*ends) as probe:
        office.change_address()
        lasted_s = probe.seconds_until_answer(80)
    print(f"outage {lasted_s:.2f} s")  # noqa: T201
    assert lasted_s < limit_s
    office.check_log()
