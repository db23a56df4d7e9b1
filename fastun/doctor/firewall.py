"""Hints whether this host's own firewall lets packets to a port in, as far as it can be read.

Firewalls are programs: this looks for a rule that names the port, and at what happens without one.
Only nftables is read, in which iptables-nft (iptables today) keeps its rules as well.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

from fastun.doctor.finding import Finding, finding
from fastun.host import programs

_LIMIT_S: Final = 3.0
_REFUSALS: Final = ("drop", "reject")


def check(scheme: str, port: int) -> Finding:
    """Say whether a rule or a policy of the input hook is in the way of a port."""
    what = f"{scheme} port {port}"
    nft = programs.find("nft")
    if nft is None:
        return finding("unknown", f"{what}: nft is not installed, so no rules can be read")
    try:
        asked = subprocess.run(
            [nft, "-j", "list", "ruleset"], capture_output=True, timeout=_LIMIT_S, check=False
        )
        items = json.loads(asked.stdout)["nftables"] if asked.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        items = None
    if items is None:
        return finding("unknown", f"{what}: the rules cannot be read", "run as root")
    return judged(items, scheme, port)


def judged(items: list[dict[str, Any]], scheme: str, port: int) -> Finding:
    """Return the finding of a ruleset as `nft -j list ruleset` prints it."""
    what = f"{scheme} port {port}"
    chains = [item["chain"] for item in items if item.get("chain", {}).get("hook") == "input"]
    rules = [item["rule"] for item in items if "rule" in item]
    allowed_by, refused_by = [], []
    for rule in rules:
        if _names(rule.get("expr", []), scheme, port):
            where = f"{rule['family']} {rule['table']} {rule['chain']}"
            verdicts = {verdict for part in rule["expr"] for verdict in part}
            if verdicts.intersection(_REFUSALS):
                refused_by.append(where)
            elif "accept" in verdicts:
                allowed_by.append(where)
    if refused_by:
        message = f"{what}: a rule of this host drops or rejects it ({refused_by[0]})"
        return finding("FAIL", message, "remove it, or accept the port before it")
    for chain in chains:
        where = f"{chain['family']} {chain['table']} {chain['name']}"
        if _refuses_the_rest(chain, rules) and not allowed_by:
            message = f"{what}: {where} refuses what no rule accepts, and none names this port"
            fix = f"nft add rule {where} {scheme} dport {port} accept (before a final reject)"
            return finding("warn", message, fix)
    return finding("ok", f"{what}: no rule of this host's input hook is in the way")


def _refuses_the_rest(chain: dict[str, Any], rules: list[dict[str, Any]]) -> bool:
    if chain.get("policy") == "drop":
        return True
    own = [
        rule
        for rule in rules
        if (rule["family"], rule["table"], rule["chain"])
        == (chain["family"], chain["table"], chain["name"])
    ]
    # A last rule that matches everything and refuses it.
    last = own[-1].get("expr", []) if own else []
    kinds = [kind for part in last for kind in part]
    return bool(kinds) and kinds[-1] in _REFUSALS and set(kinds[:-1]) <= {"counter", "limit", "log"}


def _names(expressions: list[dict[str, Any]], scheme: str, port: int) -> bool:
    for part in expressions:
        match = part.get("match", {})
        field = match.get("left", {})
        payload = field.get("payload", {}) if isinstance(field, dict) else {}
        if payload.get("field") != "dport" or payload.get("protocol") not in (scheme, "th"):
            continue
        if match.get("op") in ("==", "in") and _holds(match.get("right"), port):
            return True
    return False


def _holds(right: Any, port: int) -> bool:
    if isinstance(right, int):
        return right == port
    if isinstance(right, dict):
        if "range" in right:
            first, last = right["range"]
            return bool(first <= port <= last)
        return any(_holds(each, port) for each in right.get("set", ()))
    return False
