"""The rules of a kill switch: what is in them, and what nft and the kernel make of it."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from fastun.host.firewall import kill_switch_rules, nft
from fastun.host.firewall.kill_switch_rules import Allowed, LocalNetwork
from fastun.host.routing.outer_addresses import OuterEndpoint

SERVER, SERVER_V6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")
ALLOWED = Allowed(
    interface="ft0",
    mark=51820,
    endpoints=frozenset(
        (OuterEndpoint("udp", SERVER, 51820), OuterEndpoint("tcp", SERVER_V6, 443))
    ),
    dns_servers=frozenset((ip_address("192.168.1.1"),)),
    networks=(
        LocalNetwork("wlan0", ip_network("192.168.1.0/24"), is_within=False),
        LocalNetwork("wlan0", ip_network("fe80::/64"), is_within=False),
        LocalNetwork("docker0", ip_network("172.17.0.0/16"), is_within=True),
        LocalNetwork("wlan0", ip_network("8.8.8.0/24"), is_within=False),
        LocalNetwork("odd*", ip_network("10.0.0.0/24"), is_within=True),
    ),
)


def rules(allowed: Allowed, chain: str) -> list[str]:
    (found,) = (each for each in kill_switch_rules.table(allowed).chains if each.name == chain)
    return [json.dumps(rule) for rule in found.rules]


@pytest.mark.parametrize("has_lan", [False, True])
def test_each_chain_drops_what_no_rule_accepts(has_lan: bool) -> None:
    allowed = Allowed(interface="ft0", mark=1, networks=ALLOWED.networks, has_lan=has_lan)
    table = kill_switch_rules.table(allowed)
    assert table.stays, "a journal would remove it"
    assert {(chain.hook, chain.policy) for chain in table.chains} == {
        (hook, "drop") for hook in ("output", "forward", "postrouting")
    }
    after_nat = 100
    assert all(chain.priority > after_nat for chain in table.chains)
    assert all('"drop"' in rule or '"reject"' in rule for rule in
               (rules(allowed, chain.name)[-1] for chain in table.chains))  # fmt: skip


def test_our_own_packets_need_mark_protocol_address_and_port() -> None:
    own = [rule for rule in rules(ALLOWED, "postrouting") if '"mark"' in rule]
    assert len(own) == 2, "one for each IP version"
    assert all("51820" in rule and "dport" in rule and "l4proto" in rule for rule in own)
    assert '{"concat": ["udp", "192.0.2.1", 51820]}' in own[0]
    assert '{"concat": ["udp", "192.168.1.1", 53]}' in own[0]
    assert '{"concat": ["tcp", "2001:db8::1", 443]}' in own[1]
    assert not any('"mark"' in rule for rule in rules(ALLOWED, "forward"))


def test_before_any_endpoint_is_known_no_rule_has_the_mark() -> None:
    allowed = Allowed(interface="ft0", mark=51820)
    assert not any('"mark"' in rule for rule in rules(allowed, "output"))


def test_without_the_lan_only_networks_within_this_host_are_reached() -> None:
    for chain in ("output", "postrouting", "forward"):
        said = "\n".join(rules(ALLOWED, chain))
        assert "172.17.0.0" in said
        assert "wlan0" not in said


def test_the_lan_is_private_networks_only_and_no_names_there() -> None:
    allowed = Allowed(interface="ft0", mark=1, networks=ALLOWED.networks, has_lan=True)
    said = rules(allowed, "output")
    text = "\n".join(said)
    assert "192.168.1.0" in text
    assert "fe80::" in text
    assert "8.8.8.0" not in text, "a public network of the LAN is not the LAN"
    assert "odd*" not in text, "nft would read a wildcard"
    (no_names,) = (place for place, rule in enumerate(said) if "853" in rule)
    assert all(place < no_names for place, rule in enumerate(said) if '"mark"' in rule)
    assert all(place > no_names for place, rule in enumerate(said) if "wlan0" in rule)


@pytest.mark.parametrize(
    ("network", "is_private"),
    [
        ("10.0.0.0/8", True),
        ("10.0.0.0/7", False),
        ("172.31.255.0/24", True),
        ("172.32.0.0/24", False),
        ("100.64.0.0/24", False),
        ("169.254.0.0/16", True),
        ("0.0.0.0/0", False),
        ("fd00::/64", True),
        ("fe80::/64", True),
        ("2001:db8::/64", False),
        ("::/0", False),
    ],
)
def test_a_network_is_private_as_a_whole_or_not(network: str, is_private: bool) -> None:
    assert kill_switch_rules.is_private(ip_network(network)) == is_private


def test_the_transaction_names_no_other_table() -> None:
    commands: list[dict[str, Any]] = nft.transaction(kill_switch_rules.table(ALLOWED))["nftables"]
    tables = {
        item.get("table", item.get("name"))
        for command in commands
        for of_kind in command.values()
        for item in of_kind.values()
    }
    assert tables == {"fastun_ft0_kill_switch"}
