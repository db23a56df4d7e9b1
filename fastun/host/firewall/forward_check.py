"""Whether other programs' tables drop what this host is to forward: Docker's, ufw's, firewalld's.

A packet that one table accepts is still seen by all others of the hook, so no rule of ours can let
through what another chain drops. This reads those chains as far as they can be read, for a new
connection from the device to each interface that leads on, and for its answers:

    rule by rule: the interfaces must be the packet's; a match of addresses, marks and whatever else
    may be meant for us, so an accept behind it counts; one of ports or protocols is for a few only

In doubt nothing is said: a false alarm at a gateway that works costs more trust than silence.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fastun.errors import RuntimeFailure
from fastun.host import programs
from fastun.host.firewall import nft

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_REFUSALS: Final = ("drop", "reject")
_ACCEPT, _CONTINUE, _REFUSE = "accept", "continue", "refuse"
_OUTCOMES: Final = {_ACCEPT: _ACCEPT, "return": _CONTINUE} | dict.fromkeys(_REFUSALS, _REFUSE)
_VERDICTS: Final = (*_OUTCOMES, "jump", "goto")
_VERSIONS: Final = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}
_JUMPS_MAX: Final = 16  # the kernel's NFT_JUMP_STACK_SIZE
# What a look into rules raises that are of another form than those of today.
_UNREADABLE: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError)

_NEW, _ANSWER = frozenset({"new"}), frozenset({"established"})

# iptables before nftables: its rules are in the kernel where this file names a table.
_LEGACY: Final = {4: ("iptables", "ip_tables_names"), 6: ("ip6tables", "ip6_tables_names")}
_LEGACY_LIMIT_S: Final = 3.0

Place = tuple[str, str, str]  # family, table, chain
_Rules = dict[Place, list[list[dict[str, Any]]]]


class Obstacle(msgspec.Struct, frozen=True):
    """A chain that refuses what is to be forwarded, and the command that lets it through."""

    chain: str
    command: str

    def __str__(self) -> str:
        """Say so in one line."""
        return f"{self.chain} drops what is to be forwarded; run '{self.command}'"


class Passage(msgspec.Struct, frozen=True):
    """A packet that is to pass: the interfaces that it comes and leaves by, what it begins."""

    comes_by: str
    leaves_by: str
    states: frozenset[str]


def find(interface: str, ways: dict[int, list[str]]) -> list[Obstacle]:
    """Return what is in the way between the device and interfaces, which are by IP version.

    Nothing where the rules cannot be read. Blocks for the time of a program or two.
    """
    try:
        found = judged(nft.ruleset(), interface, ways)
    except (RuntimeFailure, *_UNREADABLE):
        found = []
    for version, (program, file) in _LEGACY.items():
        if ways[version] and _has_legacy(file):
            found += _legacy(program, interface)
    return found


def judged(
    items: list[dict[str, Any]], interface: str, ways: dict[int, list[str]]
) -> list[Obstacle]:
    """Return the obstacles of a ruleset as nft prints it."""
    rules: _Rules = {}
    for each in (item["rule"] for item in items if "rule" in item):
        of = each["family"], each["table"], each["chain"]
        rules.setdefault(of, []).append(each.get("expr", []))
    found = []
    for chain in (item["chain"] for item in items if "chain" in item):
        if chain.get("hook") != "forward" or chain["family"] not in _VERSIONS:
            continue
        if chain["table"].startswith(nft.PREFIX):
            continue
        others = {way for version in _VERSIONS[chain["family"]] for way in ways[version]}
        if any(_is_refused(chain, rules, each) for each in _passages(interface, others)):
            place = f"{chain['family']} {chain['table']} {chain['name']}"
            found.append(Obstacle(place, _command(chain, rules, interface)))
    return found


def _passages(interface: str, others: Iterable[str]) -> Iterator[Passage]:
    for other in sorted(others):
        yield Passage(interface, other, _NEW)
        yield Passage(other, interface, _ANSWER)


def _is_refused(chain: dict[str, Any], rules: _Rules, passage: Passage) -> bool:
    outcome = _walk((chain["family"], chain["table"], chain["name"]), rules, passage)
    return outcome == _REFUSE or (outcome == _CONTINUE and chain.get("policy") == "drop")


def _walk(place: Place, rules: _Rules, passage: Passage, depth: int = 0) -> str:
    """Return what becomes of a packet in a chain, in favour of its passing."""
    for expressions in rules.get(place, ()) if depth <= _JUMPS_MAX else ():
        may_match, must_match, verdict = _read(expressions, passage)
        kind = next(iter(verdict), "") if may_match else ""
        if kind in ("jump", "goto"):
            target = (*place[:2], verdict[kind]["target"])
            outcome = _walk(target, rules, passage, depth + 1)
            if outcome == _ACCEPT or (must_match and (outcome == _REFUSE or kind == "goto")):
                return outcome
        elif kind == _ACCEPT or (kind and must_match):
            return _OUTCOMES[kind]
    return _CONTINUE


def _read(expressions: list[dict[str, Any]], passage: Passage) -> tuple[bool, bool, dict[str, Any]]:
    """Return whether a packet may match a rule, whether each does, and its verdict, if any."""
    may_match, must_match = True, True
    for each in expressions:
        if not isinstance(each, dict):
            must_match = False
            continue
        kind = next(iter(each), "")
        if kind == "vmap":
            verdict = _chosen(each["vmap"], passage)
            return may_match, must_match, verdict
        if kind in _VERDICTS:
            return may_match, must_match, each
        if kind in ("match", "xt", "limit"):
            may, must = _matches(each, passage)
            may_match, must_match = may_match and may, must_match and must
    return may_match, must_match, {}


def _chosen(vmap: dict[str, Any], passage: Passage) -> dict[str, Any]:
    """Return the verdict that a map has for a packet; for one that cannot be read, accept."""
    elements = _values(vmap["data"])
    for element in elements:
        if not (isinstance(element, list) and len(element) == 2):  # noqa: PLR2004 (key, verdict)
            return {_ACCEPT: None}
        match = {"match": {"op": "==", "left": vmap["key"], "right": element[0]}}
        may, must = _matches(match, passage)
        if must:
            found: dict[str, Any] = element[1]
            return found
        if may:
            return {_ACCEPT: None}
    return {}


def _matches(expression: dict[str, Any], passage: Passage) -> tuple[bool, bool]:
    """Return whether a packet may match, and whether each does."""
    if "match" not in expression:
        return _matches_iptables(expression.get("xt", {}).get("name"), passage)
    match = expression["match"]
    left, values = match["left"], _values(match["right"])
    is_negated = match["op"] == "!="
    meta, ct = left.get("meta", {}).get("key"), left.get("ct", {}).get("key")
    if meta in ("iifname", "iif", "oifname", "oif"):
        if any(str(each).startswith("@") for each in values):  # a set, whose elements are elsewhere
            return True, False
        name = passage.comes_by if meta.startswith("i") else passage.leaves_by
        is_one = any(fnmatch.fnmatchcase(name, str(each)) for each in values)
        return (is_one != is_negated,) * 2
    if ct == "state":
        is_one = not passage.states.isdisjoint(map(str, values))
        return (is_one != is_negated,) * 2
    is_of_few = meta in ("l4proto", "protocol") or ct == "status"
    is_of_addresses = left.get("payload", {}).get("field") in ("saddr", "daddr")
    return not is_of_few and ("payload" not in left or is_of_addresses), False


def _matches_iptables(name: str | None, passage: Passage) -> tuple[bool, bool]:
    """Return it of a match of iptables' own, of which nft prints no more than the name."""
    if name == "conntrack":
        return (passage.states == _ANSWER,) * 2
    return name not in ("tcp", "udp", "icmp", "icmp6", "multiport"), name == "comment"


def _values(right: Any) -> list[Any]:
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    return right if isinstance(right, list) else [right]


def _command(chain: dict[str, Any], rules: _Rules, interface: str) -> str:
    """Return what lets the device's packets pass, in the terms of what has made the chain."""
    family, table, name = chain["family"], chain["table"], chain["name"]
    targets = [
        each[kind]["target"]
        for expressions in rules.get((family, table, name), ())
        for each in expressions
        for kind in ("jump", "goto")
        if kind in each
    ]
    if table == "firewalld":
        return f"firewall-cmd --zone=trusted --add-interface={interface}"
    if any(target.startswith(("ufw-", "ufw6-")) for target in targets):
        return f"ufw route allow in on {interface}"
    if (table, name) == ("filter", "FORWARD") and family in ("ip", "ip6"):
        into = "DOCKER-USER" if "DOCKER-USER" in targets else "FORWARD"
        return _iptables("iptables" if family == "ip" else "ip6tables", into, interface)
    rule = f"nft insert rule {family} {table} {name}"
    return f"{rule} iifname {interface} accept; {rule} oifname {interface} accept"


def _iptables(program: str, chain: str, interface: str) -> str:
    rule = f"{program} -I {chain}"
    return f"{rule} -i {interface} -j ACCEPT; {rule} -o {interface} -j ACCEPT"


def _has_legacy(file: str) -> bool:
    try:
        names = Path("/proc/thread-self/net", file).read_text(encoding="ascii").split()
    except OSError:
        return False
    return "filter" in names


def _legacy(program: str, interface: str) -> list[Obstacle]:
    """Return the obstacle of iptables as it was before nftables."""
    try:
        printed = programs.run((f"{program}-legacy-save",), limit_s=_LEGACY_LIMIT_S)
    except RuntimeFailure:
        return []
    return judged_legacy(printed, program, interface)


def judged_legacy(printed: str, program: str, interface: str) -> list[Obstacle]:
    """Return the obstacle of what iptables-legacy-save prints: its policy, and no rule for us."""
    lines = printed.splitlines()
    is_dropped = any(line.startswith(":FORWARD DROP") for line in lines)
    accepted = [line.split() for line in lines if line.endswith("-j ACCEPT")]
    named = {word for words in accepted for word in words if words[1] in ("FORWARD", "DOCKER-USER")}
    is_open = ["-A", "FORWARD", "-j", "ACCEPT"] in accepted
    if not is_dropped or is_open or interface in named:
        return []
    into = "DOCKER-USER" if any(" -j DOCKER-USER" in line for line in lines) else "FORWARD"
    command = _iptables(f"{program}-legacy", into, interface)
    return [Obstacle(f"{program}-legacy filter FORWARD", command)]
