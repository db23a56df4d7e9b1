"""The rules by which a route takes all packets into the tunnel but the tunnel's own.

A route that covers an address that our own packets go to, as a default route does, is in a table of
its own, which all packets use except those with our mark (ip-rule(8)):

    32764: from all lookup main suppress_prefixlength 0     known networks first, but no default
    32765: not from all fwmark MARK lookup TABLE            what is not our own goes into the tunnel
    32766: from all lookup main                             our own goes on as ever

That is wg-quick(8)'s way. For a route of length N the two are N pairs further up, and say that of
the main table only what is longer counts, and of ours only what is not shorter, so that as ever the
longest prefix wins:

    32716: from all lookup main suppress_prefixlength 24
    32717: not from all fwmark MARK lookup TABLE suppress_prefixlength 23

Routes go with their device, however the gateway ends; rules stay after a SIGKILL, until the next
start undoes them (journal.py). Leading to an empty table they change nothing: a rule of ours with
no route in its table is stale. So a route is made before its rule.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastun.host.iproute import NetlinkError
from fastun.host.tables import has_routes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fastun.host.iproute import IPRoute

# The kernel shows the maker of a route or a rule; routing daemons leave alone what is not theirs.
# Below 192 are the numbers that the kernel's list (linux/rtnetlink.h) and iproute2's give away;
# neither has this one.
PROTOCOL: Final = 157

FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
MAIN_TABLE: Final = 254  # linux/rtnetlink.h

# WireGuard's port, and the first mark that wg-quick(8) tries.
FIRST_MARK: Final = 51820

# Before the main table's rule, which the kernel has at 32766.
_KNOWN_FIRST_PRIORITY: Final = 32764
_LENGTH_MAX: Final = 128
_FIB_RULE_INVERT: Final = 2  # linux/fib_rules.h


class Level(NamedTuple):
    """The routes of one length that need rules."""

    version: int
    length: int

    @property
    def known_first(self) -> int:
        """The priority of the rule for longer routes of the main table."""
        return _KNOWN_FIRST_PRIORITY - 2 * self.length

    @property
    def unmarked(self) -> int:
        """The priority of the rule for what is not our own."""
        return self.known_first + 1


def free_mark(netlink: IPRoute, tables: Collection[int]) -> int:
    """Return the first mark that is the number of nothing: of no rule's mark, and no table.

    ``tables`` are those that have routes.
    """
    taken = {
        rule.get_attr(name) for rule in _rules(netlink) for name in ("FRA_FWMARK", "FRA_TABLE")
    }
    mark = FIRST_MARK
    while mark in taken or mark in tables:
        mark += 1
    return mark


def table_of(mark: int) -> int:
    """Return the table for a mark: its number, but past where the kernel and people have theirs."""
    return mark if mark >= FIRST_MARK else FIRST_MARK + mark


def missing(netlink: IPRoute, mark: int, levels: Collection[Level]) -> set[Level]:
    """Return for which levels a rule is not there."""
    there = [
        (_VERSIONS[rule["family"]], rule.get_attr("FRA_PRIORITY"))
        for rule in _ours(netlink)
        if rule.get_attr("FRA_FWMARK") in (None, mark)
    ]
    return {
        level
        for level in levels
        if not {(level.version, level.known_first), (level.version, level.unmarked)} <= {*there}
    }


def install(netlink: IPRoute, level: Level, mark: int) -> None:
    """Lead packets of an IP version to the mark's table but where they carry it."""
    for rule in _rules_of(level, mark):
        try:
            netlink.rule("add", **rule)
        except NetlinkError as error:
            if error.code != errno.EEXIST:  # The second may be there for another tunnel.
                raise


def _rules_of(level: Level, mark: int) -> tuple[dict[str, Any], dict[str, Any]]:
    ours = {"family": FAMILIES[level.version], "FRA_PROTOCOL": PROTOCOL}
    leading = {
        "priority": level.unmarked,
        "flags": _FIB_RULE_INVERT,
        "fwmark": mark,
        "table": table_of(mark),
    }
    if level.length:
        leading["FRA_SUPPRESS_PREFIXLEN"] = level.length - 1
    known = {
        "priority": level.known_first,
        "table": MAIN_TABLE,
        "FRA_SUPPRESS_PREFIXLEN": level.length,
    }
    return leading | ours, known | ours


def keep(netlink: IPRoute, mark: int, levels: Collection[Level]) -> None:
    """Remove the mark's rules for other levels than these, and what is stale."""
    kept = {(FAMILIES[level.version], level.unmarked) for level in levels}
    for rule in _ours(netlink):
        if (
            rule.get_attr("FRA_FWMARK") == mark
            and (rule["family"], rule.get_attr("FRA_PRIORITY")) not in kept
        ):
            _remove(netlink, rule)
    clear_stale(netlink)


def remove(netlink: IPRoute, mark: int) -> bool:
    """Undo `install` for all levels; rules in use by others, or removed, are not an error.

    Returns whether none is left.
    """
    for rule in _ours(netlink):
        if rule.get_attr("FRA_FWMARK") == mark:
            _remove(netlink, rule)
    return not clear_stale(netlink, mark)


def clear_stale(netlink: IPRoute, mark: int = 0) -> bool:
    """Remove the rules of gateways that are gone; return whether one with ``mark`` is left."""
    for family in FAMILIES.values():
        ours = [rule for rule in _ours(netlink) if rule["family"] == family]
        is_filled = {
            table: has_routes(family, table)
            for table in {rule.get_attr("FRA_TABLE") for rule in ours if _leads(rule)}
        }
        living = {
            rule.get_attr("FRA_PRIORITY")
            for rule in ours
            if _leads(rule) and is_filled[rule.get_attr("FRA_TABLE")]
        }
        for rule in ours:
            if _leads(rule):
                is_needed = is_filled[rule.get_attr("FRA_TABLE")]
            else:
                is_needed = rule.get_attr("FRA_PRIORITY") + 1 in living
            if not is_needed:
                _remove(netlink, rule)
    return any(mark and rule.get_attr("FRA_FWMARK") == mark for rule in _ours(netlink))


def leads_any(netlink: IPRoute) -> bool:
    """Return whether a living gateway has rules for IPv4, whatever its mark."""
    return any(
        rule["family"] == socket.AF_INET
        and _leads(rule)
        and has_routes(socket.AF_INET, rule.get_attr("FRA_TABLE"))
        for rule in _ours(netlink)
    )


_VERSIONS: Final = {int(family): version for version, family in FAMILIES.items()}


def _leads(rule: Any) -> bool:
    return bool(rule.get_attr("FRA_FWMARK"))


def _rules(netlink: IPRoute) -> Iterator[Any]:
    for family in FAMILIES.values():
        yield from netlink.get_rules(family=family)


def _ours(netlink: IPRoute) -> list[Any]:
    last = _KNOWN_FIRST_PRIORITY + 1
    priorities = range(last - 2 * _LENGTH_MAX - 1, last + 1)
    return [
        rule
        for rule in _rules(netlink)
        if rule.get_attr("FRA_PROTOCOL") == PROTOCOL and rule.get_attr("FRA_PRIORITY") in priorities
    ]


def _remove(netlink: IPRoute, rule: Any) -> None:
    with contextlib.suppress(NetlinkError):
        netlink.rule(
            "del",
            family=rule["family"],
            priority=rule.get_attr("FRA_PRIORITY"),
            table=rule.get_attr("FRA_TABLE"),
            FRA_PROTOCOL=PROTOCOL,
        )
