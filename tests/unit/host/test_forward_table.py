"""The rules of a gateway that forwards, as nft lists them."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from fastun.config.forward import Forward
from fastun.host.firewall import nft
from fastun.host.firewall.forward_table import Between, between_of, table

if TYPE_CHECKING:
    from fastun.lab.host import Host
    from fastun.lab.network import Lab

IN, OUT = 'iifname "ft0"', 'oifname "ft0"'
NOT_IN, NOT_OUT = 'iifname != "ft0"', 'oifname != "ft0"'
CLAMP = "tcp flags syn / syn,rst tcp option maxseg size set rt mtu"
REFUSED = "counter packets 0 bytes 0 reject with icmpx admin-prohibited"
ANSWERS = ["ct direction reply accept", "ct state related accept"]


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("host")


def rules(host: Host, forward: Forward, between: tuple[Between, ...] = ()) -> list[str]:
    """Return the rules of the forward chain, without the clamps, and of the other one."""
    made = table(forward, "ft0", ("ft0", 3), between)
    host.inside(lambda: nft.put(made))
    lines = host.run("nft", "list", "table", "inet", made.name).stdout.splitlines()
    found = [line.strip() for line in lines if line.startswith("\t\t") and "type " not in line]
    clamps = [f"{way} {CLAMP}" for way in (IN, OUT)]
    assert [line for line in found if "maxseg" in line] == clamps
    return [line for line in found if "maxseg" not in line]


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (Forward(), []),
        (Forward(peers=False), [f"{IN} {OUT} {REFUSED}"]),
        (Forward(masquerade=True), [f"{IN} {NOT_OUT} masquerade"]),
        (
            Forward(masquerade=("eth0", "ft0")),
            [f'{IN} oifname "eth0" masquerade', f"{NOT_IN} {OUT} masquerade"],
        ),
        (
            Forward(to=(ip_network("10.1.0.0/16"), ip_network("10.1.2.0/24"))),
            [
                *ANSWERS,
                f"{IN} {NOT_OUT} ip daddr != 10.1.0.0/16 {REFUSED}",
                f"{OUT} {NOT_IN} ip saddr != 10.1.0.0/16 {REFUSED}",
                f"{IN} {NOT_OUT} meta nfproto ipv6 {REFUSED}",
                f"{OUT} {NOT_IN} meta nfproto ipv6 {REFUSED}",
            ],
        ),
        (
            Forward(to=(ip_network("0.0.0.0/0"), ip_network("fd00::/8"), ip_network("fe::1"))),
            [
                *ANSWERS,
                f"{IN} {NOT_OUT} ip6 daddr != {{ fe::1, fd00::/8 }} {REFUSED}",
                f"{OUT} {NOT_IN} ip6 saddr != {{ fe::1, fd00::/8 }} {REFUSED}",
            ],
        ),
    ],
)
def test_each_wish_is_a_rule(host: Host, forward: Forward, expected: list[str]) -> None:
    assert rules(host, forward) == expected


def test_what_is_kept_apart_can_be_read_back(host: Host) -> None:
    between = (Between(4, ("eth0", "eth1.7")), Between(6, ("eth0",)))
    first, second = rules(host, Forward(), between)
    assert first == (
        'meta nfproto ipv4 iifname { "eth0", "eth1.7" } oifname { "eth0", "eth1.7" }'
        " counter packets 0 bytes 0 drop"
    )
    assert "nfproto ipv6" in second
    found = between_of(host.inside(lambda: nft.items_of("fastun_ft0_forward")))
    assert [(each.version, set(each.names)) for each in found] == [
        (each.version, set(each.names)) for each in between
    ]


def test_a_name_that_nft_would_read_as_a_pattern_is_matched_by_its_index(host: Host) -> None:
    host.ip("tuntap", "add", "x*", "mode", "tun")
    index = host.inside(lambda: socket.if_nametoindex("x*"))
    made = table(Forward(masquerade=True), "x*", ("x*", index))
    host.inside(lambda: nft.put(made))
    assert 'iif "x*" oif != "x*" masquerade' in host.run("nft", "list", "ruleset").stdout
