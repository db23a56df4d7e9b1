"""A tunnel that takes everything: what leaves this host beside it, and what does not.

tests/support/unanswered.py draws the network. Beside it there are a container's bridge without a
router (172.18.0.1/16), and on the way to the internet a LAN of private addresses (192.168.7.2/24).
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.session import keys
from tests.support.host_state import differences, host_state
from tests.support.unanswered import OUT_THERE, RULES, SERVER, rules, stop, warned, way

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from tests.support.unanswered import Connect

FILE = f"""
[interface]
name = "wg0"
address = ADDRESS
private_key = "{keys.format_key(keys.generate_private())}"
table = "all"
MORE
[[peer]]
public_key = "{SERVER}"
allowed_ips = ["10.9.0.0/24", "172.16.9.0/24"]
endpoint = "udp://{OUT_THERE}"
"""
BOTH = '["10.9.0.2/24", "fd00:9::2/64"]'
V4_ONLY = '["10.9.0.2/24"]'


def text(address: str, more: str = "") -> str:
    return FILE.replace("ADDRESS", address).replace("MORE", more)


@pytest.fixture
def laptop(client: Host) -> Host:
    client.ip("address", "add", "192.168.7.2/24", "dev", "to-internet")
    client.ip("address", "add", "fd77::2/64", "dev", "to-internet", "nodad")
    client.ip("link", "add", "br-app", "type", "bridge")
    client.ip("address", "add", "172.18.0.1/16", "dev", "br-app")
    client.ip("link", "set", "br-app", "up")
    return client


def is_refused(host: Host, address: str) -> bool:
    """Whether the host answers its own programs at once that there is no way to an address."""
    done = host.run("ip", "route", "get", address, check=False)
    return done.returncode != 0 and "unreachable" in done.stderr


def test_nothing_but_the_tunnels_own_packets_and_containers_stay_outside(
    laptop: Host, connect: Connect, tmp_path: Path
) -> None:
    before = host_state(laptop)
    # As a rogue DHCP server hands them out (option 121), and a default route of its own.
    for rogue in ("172.16.9.0/25", "198.18.0.0/15", "0.0.0.0/1", "128.0.0.0/1"):
        laptop.ip("route", "add", rogue, "via", "192.0.2.1", "metric", "1")
    process = connect(text(BOTH), name="a.toml")
    everywhere = ["203.0.113.1", "192.0.2.1", "192.168.7.1", "172.16.9.2", "198.18.0.1", "10.9.0.1"]
    for somewhere in (*everywhere, "2001:db8::1", "fd01::1", "fd77::1", OUT_THERE):
        assert way(laptop, somewhere) == "wg0", somewhere
    assert way(laptop, OUT_THERE, "mark", "51820") == "to-internet"
    assert way(laptop, "172.18.0.2") == "br-app"
    assert way(laptop, "fe80::1", "oif", "to-internet") == "to-internet"
    # What this host forwards has its way back.
    forwarded = ("203.0.113.9", "from", "172.18.0.2", "iif", "br-app")
    laptop.sysctl("net.ipv4.ip_forward", 1)
    assert way(laptop, *forwarded) == "wg0"
    laptop.sysctl("net.ipv4.ip_forward", 0)
    assert warned(tmp_path, "a") == []
    stop(process)
    for rogue in ("172.16.9.0/25", "198.18.0.0/15", "0.0.0.0/1", "128.0.0.0/1"):
        laptop.ip("route", "del", rogue)
    assert differences(before, host_state(laptop)) == []


def test_an_ip_version_that_the_tunnel_does_not_carry_is_unreachable_and_does_not_leak(
    laptop: Host, connect: Connect
) -> None:
    process = connect(text(V4_ONLY), name="a.toml")
    assert way(laptop, "203.0.113.1") == "wg0"
    for somewhere in ("2001:db8::1", "fd01::1"):
        assert is_refused(laptop, somewhere)
    assert way(laptop, "2001:db8::1", "mark", "51820") == "to-internet"
    with laptop.socket(socket.AF_INET6) as program:
        answer = program.connect_ex(("2001:db8::1", 80))
    assert answer in (errno.EHOSTUNREACH, errno.ENETUNREACH), "at once, not after a time"
    process.kill()
    process.wait(10)
    wait_until(lambda: "wg0" not in laptop.devices(), "device gone")
    stop(connect(text(BOTH), name="a.toml"))
    for family, before in RULES.items():
        assert rules(laptop, family) == before


@pytest.mark.parametrize("address", ["[]", '["fd00:9::2/64"]'])
def test_ipv4_is_unreachable_as_long_as_the_device_has_no_address_of_it(
    laptop: Host, connect: Connect, address: str
) -> None:
    process = connect(text(address), name="a.toml")
    assert is_refused(laptop, "203.0.113.1")
    if address == "[]":  # none is pushed yet
        assert is_refused(laptop, "2001:db8::1")
    else:
        assert way(laptop, "2001:db8::1") == "wg0"
    stop(process)
    assert rules(laptop, "-4") == RULES["-4"]


def test_ipv6_that_the_kernel_refuses_the_device_does_not_leak(
    laptop: Host, connect: Connect
) -> None:
    laptop.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    process = connect(text(BOTH), name="a.toml")
    assert is_refused(laptop, "2001:db8::1")
    assert way(laptop, "203.0.113.1") == "wg0"
    stop(process)


def test_the_lan_is_reached_where_it_is_allowed_but_no_public_network_and_none_of_the_tunnels(
    laptop: Host, connect: Connect, tmp_path: Path
) -> None:
    laptop.ip("address", "add", "172.16.9.7/25", "dev", "to-internet")
    process = connect(text(BOTH, "allow_lan = true"), name="a.toml")
    for somewhere in ("192.168.7.1", "fd77::1"):
        assert way(laptop, somewhere) == "to-internet"
    for somewhere in ("192.0.2.1", "172.16.9.2", "203.0.113.1", "fd01:1::1"):
        assert way(laptop, somewhere) == "wg0", somewhere
    (line,) = warned(tmp_path, "a")
    assert "not kept beside the tunnel" in line
    assert "172.16.9.0/25" in line
    # The laptop moves to another LAN.
    laptop.ip("address", "del", "192.168.7.2/24", "dev", "to-internet")
    laptop.ip("address", "add", "192.168.8.2/24", "dev", "to-internet")
    wait_until(lambda: way(laptop, "192.168.8.1") == "to-internet", "the new LAN", timeout_s=15)
    wait_until(lambda: way(laptop, "192.168.7.1") == "wg0", "the old LAN is none any more")
    assert warned(tmp_path, "a") == [line], "that was no other program's doing"
    laptop.ip("rule", "del", "pref", "32507")
    wait_until(lambda: way(laptop, "192.0.2.1") == "wg0", "the rule made again", timeout_s=15)
    stop(process)


def test_allowed_ips_that_hold_everything_and_route_nothing_are_said(
    laptop: Host, connect: Connect, tmp_path: Path
) -> None:
    toml = text(BOTH).replace('table = "all"\n', "").replace('"10.9.0.0/24", ', '"0.0.0.0/0", ')
    process = connect(toml, name="a.toml")
    (line,) = warned(tmp_path, "a")
    assert "0.0.0.0/0 in the allowed IPs of peer is not routed, because table is off" in line
    assert "--all" in line
    assert way(laptop, "203.0.113.1") == "to-internet"
    stop(process)
