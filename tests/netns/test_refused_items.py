"""One address or route that the host does not take costs no other one.

tests/support/unanswered.py draws the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.unanswered import INTERFACE, PEER, routes, stop, warned, way, with_addresses

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from tests.support.unanswered import Connect

V4 = "10.9.0.2/24"


def addresses(host: Host, family: str = "-o") -> list[str]:
    lines = host.ip("-o", family, "address", "show", "dev", "wg0").splitlines()
    return [line.split()[3] for line in lines]


def test_ipv6_that_is_off_by_sysctl_costs_no_ipv4(
    client: Host, connect: Connect, tmp_path: Path
) -> None:
    client.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    process = connect(INTERFACE + PEER + "AllowedIPs = fd00:7::/64, 10.7.0.0/16\n")
    assert routes(client, "-4") == ["10.7.0.0/16"]
    assert addresses(client) == [V4]
    address, route = warned(tmp_path)
    assert "fd00:9::2/64" in address
    assert "fd00:7::/64" in route
    for line in (address, route):
        assert "IPv6 is turned off (sysctl net.ipv6.conf.wg0.disable_ipv6 is 1)" in line
        assert "set net.ipv6.conf.default.disable_ipv6 to 0" in line
    stop(process)


def test_addresses_that_cannot_be_had_at_all_end_the_start(
    client: Host, connect: Connect, tmp_path: Path
) -> None:
    client.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    process = connect(with_addresses("fd00:9::2/64") + PEER + "AllowedIPs = 10.7.0.0/16\n")
    assert process.wait(10) == 1
    last = (tmp_path / "wg0.log").read_text().splitlines()[-1]
    assert last.startswith("fastun: address fd00:9::2/64: IPv6 is turned off")
    assert "wg0" not in client.devices()


def test_addresses_of_other_interfaces_are_legal_in_full_length_and_link_local(
    client: Host, connect: Connect, tmp_path: Path
) -> None:
    client.ip("address", "add", "fe80::1/64", "dev", "to-internet")
    wanted = ["192.0.2.2/32", "fd01::2/128", "fe80::1/64"]
    process = connect(with_addresses(", ".join(wanted)) + PEER + "AllowedIPs = 10.7.0.0/16\n")
    assert addresses(client) == wanted, "and no automatic one"
    assert way(client, "192.0.2.1") == "to-internet"
    assert warned(tmp_path) == []
    stop(process)


def test_an_address_with_its_networks_length_is_left_to_the_interface_that_has_it(
    client: Host, connect: Connect, tmp_path: Path
) -> None:
    process = connect(
        with_addresses("192.0.2.2/24, 10.9.0.2/24") + PEER + "AllowedIPs = 10.7.0.0/16\n"
    )
    assert addresses(client) == [V4]
    (said,) = warned(tmp_path)
    assert "192.0.2.2/24" in said
    assert "already assigned to another interface" in said
    stop(process)


def test_an_address_of_length_1_makes_no_half_of_a_default_route(
    client: Host, connect: Connect
) -> None:
    process = connect(with_addresses("10.9.0.2/1") + PEER + "AllowedIPs = 10.7.0.0/16\n")
    assert addresses(client) == ["10.9.0.2/1"]
    assert way(client, "11.0.0.1") == "to-internet"
    assert way(client, "10.7.0.1") == "wg0"
    stop(process)
