"""nftables tables of our own: frozen data, checked, put into the kernel, compared, removed.

    Table ---nft -c---> checked ---nft---> in place of the one before, in one transaction

own_tables.py keeps those of a device, and has the journal undo them.

All are of the inet family, so that one rule is for IPv4 and IPv6, and each belongs to a device of
ours. A rule is a sequence of nft's own JSON statements (libnftables-json(5)); `match` and the
functions after it make those that are used often. Names of interfaces and whatever else a
configuration or a peer supplies are values in them, never text of a script.

Other tables stay as they are: what they drop is dropped, whatever a table of ours accepts.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from fastun import ending
from fastun.errors import RuntimeFailure
from fastun.host import programs
from fastun.host.programs import ProgramKilled, ProgramRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX: Final = "fastun_"
LIMIT_S: Final = 5.0  # nft takes some 20 ms
_MISSING: Final = "nft is missing; install the package nftables"
_FAMILY: Final = "inet"

# Names that nft takes literally: it reads * as a wildcard, @ as a set.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.=+-]+")

# nft prints where in its input an error is, of which JSON has no lines.
_NO_PLACE: Final = re.compile(r"^nft: (?:\S+: )?Error: ")

# linux/netfilter_ipv4.h: priorities in a hook
RAW, MANGLE, FILTER, SOURCE_NAT = -300, -150, 0, 100

Statement = dict[str, Any]
Rule = tuple[Statement, ...]


class NftRefused(RuntimeFailure):
    """nft is missing, or it or the kernel refuses a table; nothing was changed."""


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """A base chain: where in the kernel its rules are asked, and what becomes of the rest."""

    name: str
    hook: Literal["prerouting", "input", "forward", "output", "postrouting"]
    priority: int = FILTER
    kind: Literal["filter", "nat", "route"] = "filter"
    policy: Literal["accept", "drop"] = "accept"
    rules: tuple[Rule, ...] = ()


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of ours; one that ``stays`` is not removed when fastun ends, however it ends."""

    name: str
    interface: str
    chains: tuple[Chain, ...]
    stays: bool = False


def table_name(interface: str, purpose: str = "") -> str:
    """Return a table's name: letters, digits and underscores, another for each interface.

    No ``purpose`` begins with two hexadecimal digits, as what stands for an odd letter does.
    """
    odd = re.sub("[^A-Za-z0-9]", lambda found: f"_{ord(found.group()):02x}", interface)
    return f"{PREFIX}{odd}_{purpose}" if purpose else f"{PREFIX}{odd}"


# -- statements ---------------------------------------------------------------------------------


def match(left: Statement, right: object, operator: str = "==") -> Statement:
    """Return a comparison, ``right`` with a set of several values as a list."""
    if isinstance(right, (list, tuple)):
        right = {"set": list(right)}
    return {"match": {"op": operator, "left": left, "right": right}}


def meta(key: str) -> Statement:
    """Return something about a packet: ``iifname``, ``oifname``, ``mark``, ``l4proto``."""
    return {"meta": {"key": key}}


def header(protocol: str, field: str) -> Statement:
    """Return a field of a packet: ``ip daddr``, ``udp dport``."""
    return {"payload": {"protocol": protocol, "field": field}}


def network(text: str) -> object:
    """Return a prefix in CIDR form, as the right side of a comparison or one of a set."""
    address, _, length = text.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}} if length else address


COUNTER: Final[Statement] = {"counter": None}
ACCEPT: Final[Statement] = {"accept": None}
DROP: Final[Statement] = {"drop": None}


def is_plain(name: str) -> bool:
    """Return whether nft takes an interface's name literally."""
    return _PLAIN_NAME.fullmatch(name) is not None


def interface_key(side: Literal["i", "o"], name: str, index: int) -> tuple[Statement, str | int]:
    """Return how to match an interface: by name, or by index where nft cannot parse the name."""
    if is_plain(name):
        return meta(f"{side}ifname"), name
    return meta(f"{side}if"), index


# -- the kernel's tables ------------------------------------------------------------------------


def put(table: Table) -> None:
    """Put a table in place of the one of its name, which was checked. NftRefused, AskedToStop."""
    _run("-j", "-f", "-", stdin=json.dumps(transaction(table)))


def check(table: Table) -> None:
    """Ask nft and the kernel whether they would take a table. Raises NftRefused, AskedToStop."""
    _run("-c", "-j", "-f", "-", stdin=json.dumps(transaction(table)))


def remove(name: str, limit_s: float = LIMIT_S, *, is_undo: bool = False) -> None:
    """Remove a table of ours, if it is there: in any process. Raises NftRefused.

    It ``is_undo`` where it is also to be done while fastun ends.
    """
    document = json.dumps({"nftables": _without(name)})
    _run("-j", "-f", "-", stdin=document, limit_s=limit_s, is_undo=is_undo)


def names(*, is_undo: bool = False) -> tuple[str, ...]:
    """Return the names of all tables of ours in this network namespace. Raises NftRefused."""
    found = [
        item.get("table", {}) for item in _items(_run("-j", "list", "tables", is_undo=is_undo))
    ]
    return tuple(
        each["name"]
        for each in found
        if each.get("family") == _FAMILY and str(each.get("name")).startswith(PREFIX)
    )


def items_of(name: str) -> list[dict[str, Any]]:
    """Return what nft lists of a table of ours. Raises NftRefused."""
    return _items(_run("-j", "list", "table", _FAMILY, name))


def ruleset() -> list[dict[str, Any]]:
    """Return all chains and rules, of all programs, as nft prints them. Raises NftRefused."""
    return _items(_run("-j", "-t", "list", "ruleset"))


def transaction(table: Table) -> dict[str, Any]:
    """Return, in nft's JSON, what replaces a table as a whole."""
    place = {"family": _FAMILY, "table": table.name}
    commands = [*_without(table.name), {"add": {"table": _place(table.name)}}]
    for chain in table.chains:
        base = {
            "name": chain.name,
            "type": chain.kind,
            "hook": chain.hook,
            "prio": chain.priority,
            "policy": chain.policy,
        }
        commands.append({"add": {"chain": place | base}})
        commands += [
            {"add": {"rule": place | {"chain": chain.name, "expr": list(rule)}}}
            for rule in chain.rules
        ]
    return {"nftables": commands}


def _place(name: str) -> dict[str, str]:
    return {"family": _FAMILY, "name": name}


def _without(name: str) -> list[dict[str, Any]]:
    """Return the commands that remove a table; to add one that is there does nothing."""
    return [{"add": {"table": _place(name)}}, {"delete": {"table": _place(name)}}]


def listed(name: str) -> str:
    """Return a table as nft lists it, but for counts and handles; empty if it is not there.

    Raises AskedToStop.
    """
    try:
        listing = _run("-j", "list", "table", _FAMILY, name)
    except NftRefused:
        return ""
    return json.dumps([_lasting(item) for item in _items(listing) if "metainfo" not in item])


def _lasting(item: Any) -> Any:
    if isinstance(item, dict):
        return {
            key: None if key == "counter" else _lasting(value)
            for key, value in item.items()
            if key != "handle"
        }
    return [_lasting(each) for each in item] if isinstance(item, list) else item


def _items(listing: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(listing)["nftables"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NftRefused("nft prints no JSON; install a package nftables that can") from None
    assert isinstance(found, list)  # noqa: S101 (libnftables-json(5))
    return found


def _run(*arguments: str, stdin: str = "", limit_s: float = LIMIT_S, is_undo: bool = False) -> str:
    """Run nft. Raises NftRefused with one line that says why, and AskedToStop."""
    if not programs.find("nft"):
        raise NftRefused(_MISSING)
    command: Sequence[str] = ("nft", *arguments)
    try:
        return programs.run(command, stdin, limit_s=limit_s, is_undo=is_undo)
    except (ProgramRefused, ProgramKilled) as error:
        if not is_undo:
            ending.check()
        raise NftRefused(_NO_PLACE.sub("nft: ", str(error))) from None
