"""Whether this host's firewall lets a port in, of rulesets as nft prints them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from fastun.doctor import firewall

if TYPE_CHECKING:
    from fastun.lab.network import Lab

BASE = (
    "table inet t {{ chain in {{ type filter hook input priority 0; policy {policy}; {rules}\n"
    "}}\n}}"
)


def ruleset(lab: Lab, policy: str, rules: str) -> list[dict[str, Any]]:
    host = lab.host("host")
    text = BASE.format(policy=policy, rules=rules)
    subprocess.run(
        ["ip", "netns", "exec", host.namespace, "nft", "-f", "-"],
        input=text, text=True, check=True,
    )  # fmt: skip
    listed = host.run("nft", "-j", "list", "ruleset").stdout
    found: list[dict[str, Any]] = json.loads(listed)["nftables"]
    return found


@pytest.mark.parametrize(
    ("policy", "rules", "verdict"),
    [
        ("accept", "", "ok"),
        ("accept", "udp dport 51820 drop", "FAIL"),
        ("accept", "udp dport { 53, 51820 } reject", "FAIL"),
        ("accept", "udp dport 50000-52000 counter drop", "FAIL"),
        ("accept", "tcp dport 51820 drop", "ok"),
        ("accept", "udp dport 51821 drop", "ok"),
        ("drop", "", "warn"),
        ("drop", "udp dport 53 accept", "warn"),
        ("drop", "udp dport 51820 accept", "ok"),
        ("drop", "meta l4proto udp th dport 51820 accept", "ok"),
        ("accept", "udp dport 53 accept; counter reject", "warn"),
        ("accept", "udp dport 51820 accept; counter reject", "ok"),
    ],
)
def test_what_a_ruleset_does_to_a_port(lab: Lab, policy: str, rules: str, verdict: str) -> None:
    found = firewall.judged(ruleset(lab, policy, rules), "udp", 51820)
    assert found.verdict == verdict, found
    assert bool(found.fix) == (verdict != "ok")
