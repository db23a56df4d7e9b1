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

A tunnel that takes everything has more (rule_kinds.py, full_tunnel.py).

Routes go with their device, however the gateway ends; rules stay after a SIGKILL, until the next
start undoes them (journal.py). Leading to an empty table they change nothing: a rule of ours with
no route in its table is stale. So a route is made before its rule.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING

from fastun.host.netlink.rules import UNREACHABLE
from fastun.host.routing.rule_kinds import (
    FAMILIES,
    FIRST_MARK,
    MAIN_TABLE,
    PRIORITIES,
    PROTOCOL,
    Kind,
    Level,
    is_unmarked,
    key_of,
    table_of,
)
from fastun.host.routing.tables import has_routes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from fastun.host.netlink.rules import Rule, Rules


def free_mark(rules: Rules, tables: Collection[int]) -> int:
    """Return the first mark that is the number of nothing: of no rule's mark, and no table.

    ``tables`` are those that have routes.
    """
    taken = {number for rule in rules.read() for number in (rule.mark, rule.table)}
    mark = FIRST_MARK
    while mark in taken or mark in tables:
        mark += 1
    return mark


def missing(rules: Rules, mark: int, kinds: Iterable[Kind]) -> set[Kind]:
    """Return for which of these a rule is not there."""
    there = {key_of(rule) for rule in _ours(rules)}
    return {kind for kind in kinds if not _keys((kind,), mark) <= there}


def install(rules: Rules, kind: Kind, mark: int) -> None:
    """Make the rules of one kind."""
    for rule in kind.rules(mark):
        try:
            rules.add(rule)
        except OSError as error:
            if error.errno != errno.EEXIST:  # One may be there for another tunnel.
                raise


def keep(rules: Rules, mark: int, kinds: Collection[Kind], before: Collection[Kind] = ()) -> None:
    """Remove the mark's rules for others than these, those of ``before``, and what is stale."""
    kept = _keys(kinds, mark)
    # Those for longer routes of the main table are other gateways' as well.
    gone = _keys((kind for kind in before if not isinstance(kind, Level)), mark) - kept
    for rule in _ours(rules):
        key = key_of(rule)
        if key in gone or (_is_of(rule, mark) and key not in kept):
            _remove(rules, rule)
    clear_stale(rules)


def remove(rules: Rules, mark: int) -> bool:
    """Undo `install` for all kinds; rules in use by others, or removed, are not an error.

    Returns whether none is left.
    """
    for rule in _ours(rules):
        if _is_of(rule, mark):
            _remove(rules, rule)
    return not clear_stale(rules, mark)


def clear_stale(rules: Rules, mark: int = 0) -> bool:
    """Remove the rules of gateways that are gone; return whether one with ``mark`` is left."""
    for family in FAMILIES.values():
        ours = [rule for rule in _ours(rules) if rule.family == family]
        is_alive = {key_of(rule): _is_alive(rule) for rule in ours if _leads(rule)}
        living = {rule.priority for rule in ours if is_alive.get(key_of(rule))}
        for rule in ours:
            if not (is_alive[key_of(rule)] if _leads(rule) else rule.priority + 1 in living):
                _remove(rules, rule)
    return any(mark and _is_of(rule, mark) for rule in _ours(rules))


def leads_any(rules: Rules) -> bool:
    """Return whether a living gateway has rules for IPv4, whatever its mark."""
    return any(
        rule.family == socket.AF_INET and _leads(rule) and has_routes(socket.AF_INET, rule.table)
        for rule in _ours(rules)
    )


def _keys(kinds: Iterable[Kind], mark: int) -> set[tuple[object, ...]]:
    return {key_of(rule) for kind in kinds for rule in kind.rules(mark)}


def _leads(rule: Rule) -> bool:
    return rule.table != MAIN_TABLE


def _is_alive(rule: Rule) -> bool:
    """Return whether the table has routes; where nothing is led to it, of the other IP version."""
    is_blocked = rule.action == UNREACHABLE
    families = FAMILIES.values() if is_blocked else (rule.family,)
    return any(has_routes(family, rule.table) for family in families)


def _is_of(rule: Rule, mark: int) -> bool:
    return rule.table == table_of(mark) if is_unmarked(rule) else rule.mark == mark


def _ours(rules: Rules) -> list[Rule]:
    return [rule for rule in rules.read() if rule.maker == PROTOCOL and rule.priority in PRIORITIES]


def _remove(rules: Rules, rule: Rule) -> None:
    with contextlib.suppress(OSError):
        rules.remove(rule)


__all__ = [
    "FAMILIES",
    "FIRST_MARK",
    "MAIN_TABLE",
    "PROTOCOL",
    "Level",
    "clear_stale",
    "free_mark",
    "install",
    "keep",
    "leads_any",
    "missing",
    "remove",
    "table_of",
]
