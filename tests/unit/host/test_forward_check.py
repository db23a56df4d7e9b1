"""Which rules of other programs drop what a gateway is to forward, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.host.firewall import nft
from fastun.host.firewall.forward_check import find, judged_legacy
from fastun.lab.network import Lab, missing_capability

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.host.firewall.forward_check import Obstacle
    from fastun.lab.host import Host

WAYS = {4: ["eth0", "lan0"], 6: ["eth0"]}

# As the programs make them (iptables 1.8.9 on nftables, Docker, ufw 0.36.2, firewalld 1.3.3),
# shortened.
DOCKER = """
table ip filter {
    chain DOCKER {
    }
    chain DOCKER-USER {
        ADMIN
        counter return
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER
        oifname "docker0" ct state related,established counter accept
        oifname "docker0" counter jump DOCKER
        iifname "docker0" oifname != "docker0" counter accept
        iifname "docker0" oifname "docker0" counter accept
    }
}"""
UFW = """
table ip filter {
    chain ufw-user-forward {
        ADMIN
    }
    chain ufw-before-forward {
        ct state related,established counter accept
        ip protocol icmp icmp type echo-request counter accept
        counter jump ufw-user-forward
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        counter jump ufw-before-forward
    }
}"""
FIREWALLD = """
table inet firewalld {
    chain filter_FWD_public {
        ip6 nexthdr icmpv6 accept
        reject with icmpx admin-prohibited
    }
    chain filter_FWD_trusted {
        accept
    }
    chain filter_FORWARD_ZONES {
        ADMIN
        goto filter_FWD_public
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        jump filter_FORWARD_ZONES
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
}"""
CHAIN = """
table {table} {{
    chain {chain} {{
        type filter hook {hook} priority filter; policy {policy};
    }}
}}"""
OWN = """
table inet mine {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        ADMIN
    }
}"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    if missing := missing_capability():
        pytest.skip(missing)
    with Lab() as lab:
        yield lab.host("host")


def found(host: Host, ruleset: str, user: str = "") -> list[Obstacle]:
    """Return what is found of rules, with those of the administrator in their place."""
    host.run("nft", "flush ruleset")
    host.run("nft", ruleset.replace("ADMIN", user))
    return host.inside(lambda: find("fastun0", WAYS))


@pytest.mark.parametrize(
    ("ruleset", "chain", "command"),
    [
        (
            DOCKER,
            "ip filter FORWARD",
            (
                "iptables -I DOCKER-USER -i fastun0 -j ACCEPT; "
                "iptables -I DOCKER-USER -o fastun0 -j ACCEPT"
            ),
        ),
        (UFW, "ip filter FORWARD", "ufw route allow in on fastun0"),
        (
            FIREWALLD,
            "inet firewalld filter_FORWARD",
            "firewall-cmd --zone=trusted --add-interface=fastun0",
        ),
        (
            OWN,
            "inet mine forward",
            (
                "nft insert rule inet mine forward iifname fastun0 accept; "
                "nft insert rule inet mine forward oifname fastun0 accept"
            ),
        ),
        (
            CHAIN.format(table="ip6 filter", chain="FORWARD", hook="forward", policy="drop"),
            "ip6 filter FORWARD",
            "ip6tables -I FORWARD -i fastun0 -j ACCEPT; ip6tables -I FORWARD -o fastun0 -j ACCEPT",
        ),
    ],
    ids=["docker", "ufw", "firewalld", "nftables", "ip6tables"],
)
def test_a_chain_that_drops_is_named_with_the_command_that_helps(
    host: Host, ruleset: str, chain: str, command: str
) -> None:
    (obstacle,) = found(host, ruleset)
    assert (obstacle.chain, obstacle.command) == (chain, command)


@pytest.mark.parametrize(
    ("ruleset", "user"),
    [
        (DOCKER, 'iifname "fastun0" counter accept; oifname "fastun0" counter accept;'),
        (DOCKER, 'iifname "fastun*" accept; ct state established accept;'),
        (DOCKER, "ip saddr 10.55.0.0/24 accept; ip daddr 10.55.0.0/24 accept;"),
        (DOCKER, "accept;"),
        (UFW, 'iifname "fastun0" counter accept;'),
        (FIREWALLD, 'iifname "fastun0" goto filter_FWD_trusted;'),
        (FIREWALLD, 'oifname "eth0" accept; oifname "lan0" accept;'),  # one zone has all of them
        (OWN, 'iifname { "fastun0", "fastun1" } accept;'),
        (OWN, 'iifname vmap { "fastun0" : accept };'),
        (OWN, "meta mark 7 accept;"),
        (
            OWN.replace("    chain", "    set vpn { type ifname; }\n    chain", 1),
            "iifname @vpn accept;",
        ),
        (CHAIN.format(table="ip filter", chain="FORWARD", hook="forward", policy="accept"), ""),
        (CHAIN.format(table="ip filter", chain="INPUT", hook="input", policy="drop"), ""),
    ],
)
def test_one_that_lets_it_through_is_not_an_obstacle(host: Host, ruleset: str, user: str) -> None:
    assert found(host, ruleset, user) == []


@pytest.mark.parametrize(
    "user",
    [
        'iifname "fastun0" tcp dport 22 accept;',
        'iifname "eth7" accept;',
        'iifname != "fastun0" accept;',
        'iifname "fastun0" oifname "lan0" accept;',  # and none to eth0
        'iifname "fastun0" drop; accept;',
        'oifname "fastun0" accept;',
    ],
)
def test_a_rule_for_a_few_packets_or_other_ways_does_not_help(host: Host, user: str) -> None:
    assert len(found(host, OWN, user)) == 1


def test_a_table_of_ours_and_an_ip_version_without_a_way_are_no_obstacle(host: Host) -> None:
    for table in ("inet fastun_other", "ip6 filter"):
        ruleset = CHAIN.format(table=table, chain="forward", hook="forward", policy="drop")
        host.run("nft", "flush ruleset")
        host.run("nft", ruleset)
        assert host.inside(lambda: find("fastun0", {4: ["eth0"], 6: []})) == []


def test_without_nft_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise nft.NftRefused("nft is missing")

    monkeypatch.setattr(nft, "ruleset", refuse)
    monkeypatch.setattr("fastun.host.firewall.forward_check._has_legacy", lambda _: False)
    assert find("fastun0", WAYS) == []


LEGACY = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
{}-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
COMMIT
"""


def test_iptables_of_before_is_read_as_it_prints_itself() -> None:
    (obstacle,) = judged_legacy(LEGACY.format(""), "iptables", "fastun0")
    assert str(obstacle) == (
        "iptables-legacy filter FORWARD drops what is to be forwarded; run 'iptables-legacy -I "
        "DOCKER-USER -i fastun0 -j ACCEPT; iptables-legacy -I DOCKER-USER -o fastun0 -j ACCEPT'"
    )
    for rule in ("-A DOCKER-USER -i fastun0 -j ACCEPT\n", "-A FORWARD -j ACCEPT\n"):
        assert judged_legacy(LEGACY.format(rule), "iptables", "fastun0") == []
    assert judged_legacy(LEGACY.replace("DROP", "ACCEPT").format(""), "iptables", "fastun0") == []
