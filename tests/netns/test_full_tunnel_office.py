"""`connect --all` alone, with a gateway that forwards: everything goes through it, and names, too.

tests/support/office.py has the hosts. A server out there is reached as from the gateway, the office
by the names that its DNS server has; on the laptop's uplink there is nothing but the tunnel.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from tests.support import leaks, office
from tests.support.host_state import differences, host_state
from tests.support.kill_all import kill_all
from tests.support.leaks import Attempts, Capture, Permitted
from tests.support.name_server import NameServer, resolv_conf
from tests.support.office import DNS, GATEWAY, INNER_ADDRESSES, OUTSIDE, SERVER, Operator

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

NAME = "files.corp.example"
PUSH = f"[push]\ndns = ['{DNS[4]}', 'corp.example']\n"
LAN_DNS = "192.0.2.1"  # of the network that the laptop is in
PERMITTED = Permitted(frozenset({("udp", GATEWAY[4], 51820)}))
# As Docker's rules by iptables are on nftables.
DOCKER = """
table ip filter {
    chain DOCKER-USER { counter return; }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER
        oifname "docker0" ct state related,established counter accept
    }
}
table ip nat {
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 172.17.0.0/16 oifname != "docker0" counter masquerade
    }
}"""
OF_THE_LINK = re.compile("^protocol (2|0) from .* to (224.0.0.22|ff02::16)$")  # IGMP and MLD


def looked_up(host: Host, name: str) -> str:
    return host.run("getent", "ahostsv4", name, check=False).stdout.partition(" ")[0]


@pytest.mark.parametrize("inner", [4, 6])
def test_everything_goes_through_the_tunnel_and_nothing_beside_it(
    lab: Lab, tmp_path: Path, inner: int
) -> None:
    """With both IP versions inside, or with IPv4 alone: IPv6 does not leak then."""
    hosts = office.build(lab)
    laptop, config = hosts.laptop, tmp_path / "gateway.toml"
    config.write_text(PUSH)
    at_gateway, at_laptop = (
        Operator(host, tmp_path / host.name) for host in (hosts.gateway, hosts.laptop)
    )
    addresses = INNER_ADDRESSES if inner == 6 else INNER_ADDRESSES[:2]
    with (
        resolv_conf(laptop, LAN_DNS) as resolver,
        NameServer(hosts.internet, LAN_DNS, {NAME: [OUTSIDE[4]]}) as lan,
        NameServer(hosts.dns, DNS[4], {NAME: [SERVER[4]]}),
    ):
        laptop.run("nft", DOCKER)
        before = host_state(laptop, resolver)
        at_gateway.start("serve", "-c", str(config), "--forward", "--masquerade", *addresses)
        file = office.add_laptop(at_gateway, tmp_path)
        connected = at_laptop.start("connect", str(file), "--all")
        assert [len(at_gateway.commands), len(at_laptop.commands)] == [2, 1]
        wait_until(lambda: looked_up(laptop, NAME) == SERVER[4], "a name of the office")
        tries = (
            *(leaks.udp(laptop, to, 9) for to in (*OUTSIDE.values(), *SERVER.values(), LAN_DNS)),
            leaks.tcp(laptop, OUTSIDE[6], 80),
            leaks.dns_question(laptop, LAN_DNS, NAME),
        )
        n_asked = len(lan.asked_by)
        with Capture(laptop, "to-internet", PERMITTED) as capture, Attempts(*tries) as attempts:
            for version in (4, 6)[: inner // 3 or 1]:
                for address in (OUTSIDE[version], SERVER[version]):
                    assert answers_ping(laptop, address), address
            wait_until(lambda: attempts.n_sent > 300, "attempts")
        assert [each for each in capture.leaks if not OF_THE_LINK.search(each)] == []
        assert capture.n_permitted > 20, "it was the tunnel that carried them"
        assert {*lan.asked_by[n_asked:]} == {GATEWAY[4]}, "by the tunnel"
        if inner == 4:
            with laptop.socket(socket.AF_INET6) as program, pytest.raises(OSError, match="nreach"):
                program.connect((OUTSIDE[6], 80))
        assert connected.stop(timeout_s=15) == 0
        assert differences(before, host_state(laptop, resolver)) == []
        if inner == 6:
            killed = at_laptop.start("connect", str(file), "--all")
            wait_until(lambda: looked_up(laptop, NAME) == SERVER[4], "the tunnel's names")
            kill_all(laptop)
            killed.process.wait(5)
            wait_until(lambda: not laptop.pids(), "all of it gone")
            assert differences(before, host_state(laptop, resolver)), "rules and DNS"
            again = at_laptop.start("connect", str(file), "--all")
            wait_until(lambda: looked_up(laptop, NAME) == SERVER[4], "names again")
            assert again.stop(timeout_s=15) == 0
            assert differences(before, host_state(laptop, resolver)) == []
