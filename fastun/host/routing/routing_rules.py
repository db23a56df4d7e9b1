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
from typing import TYPE_CHECKING, Any

from fastun.host.netlink.iproute import NetlinkError
from fastun.host.routing.rule_kinds import (
    FAMILIES,
    FIRST_MARK,
    MAIN_TABLE,
    PRIORITIES,
    PROTOCOL,
    UNREACHABLE,
    Kind,
    Level,
    is_unmarked,
    key_found,
    key_of,
    table_of,
)
from fastun.host.routing.tables import has_routes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from fastun.host.netlink.iproute import IPRoute


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


def missing(netlink: IPRoute, mark: int, kinds: Iterable[Kind]) -> set[Kind]:
    """Return for which of these a rule is not there."""
    there = {key_found(rule) for rule in _ours(netlink)}
    return {kind for kind in kinds if not _keys((kind,), mark) <= there}


def install(netlink: IPRoute, kind: Kind, mark: int) -> None:
    """Make the rules of one kind."""
    for rule in kind.rules(mark):
        try:
            netlink.rule("add", **rule)
        except NetlinkError as error:
            if error.code != errno.EEXIST:  # One may be there for another tunnel.
                raise


def keep(
    netlink: IPRoute, mark: int, kinds: Collection[Kind], before: Collection[Kind] = ()
) -> None:
    """Remove the mark's rules for others than these, those of ``before``, and what is stale."""
    kept = _keys(kinds, mark)
    # Those for longer routes of the main table are other gateways' as well.
    gone = _keys((kind for kind in before if not isinstance(kind, Level)), mark) - kept
    for rule in _ours(netlink):
        key = key_found(rule)
        if key in gone or (_is_of(rule, mark) and key not in kept):
            _remove(netlink, rule)
    clear_stale(netlink)


def remove(netlink: IPRoute, mark: int) -> bool:
    """Undo `install` for all kinds; rules in use by others, or removed, are not an error.

    Returns whether none is left.
    """
    for rule in _ours(netlink):
        if _is_of(rule, mark):
            _remove(netlink, rule)
    return not clear_stale(netlink, mark)


def clear_stale(netlink: IPRoute, mark: int = 0) -> bool:
    """Remove the rules of gateways that are gone; return whether one with ``mark`` is left."""
    for family in FAMILIES.values():
        ours = [rule for rule in _ours(netlink) if rule["family"] == family]
        is_alive = {key_found(rule): _is_alive(rule) for rule in ours if _leads(rule)}
        living = {rule.get_attr("FRA_PRIORITY") for rule in ours if is_alive.get(key_found(rule))}
        for rule in ours:
            if _leads(rule):
                is_needed = is_alive[key_found(rule)]
            else:
                is_needed = rule.get_attr("FRA_PRIORITY") + 1 in living
            if not is_needed:
                _remove(netlink, rule)
    return any(mark and _is_of(rule, mark) for rule in _ours(netlink))


def leads_any(netlink: IPRoute) -> bool:
    """Return whether a living gateway has rules for IPv4, whatever its mark."""
    return any(
        rule["family"] == socket.AF_INET
        and _leads(rule)
        and has_routes(socket.AF_INET, rule.get_attr("FRA_TABLE"))
        for rule in _ours(netlink)
    )


def _keys(kinds: Iterable[Kind], mark: int) -> set[tuple[object, ...]]:
    return {key_of(rule) for kind in kinds for rule in kind.rules(mark)}


def _leads(rule: Any) -> bool:
    return bool(rule.get_attr("FRA_TABLE") != MAIN_TABLE)


def _is_alive(rule: Any) -> bool:
    """Return whether the table has routes; where nothing is led to it, of the other IP version."""
    is_blocked = rule["action"] == UNREACHABLE
    families = FAMILIES.values() if is_blocked else (rule["family"],)
    return any(has_routes(family, rule.get_attr("FRA_TABLE")) for family in families)


def _is_of(rule: Any, mark: int) -> bool:
    if is_unmarked(rule):
        return bool(rule.get_attr("FRA_TABLE") == table_of(mark))
    return bool(rule.get_attr("FRA_FWMARK") == mark)


def _rules(netlink: IPRoute) -> Iterator[Any]:
    for family in FAMILIES.values():
        yield from netlink.get_rules(family=family)


def _ours(netlink: IPRoute) -> list[Any]:
    return [
        rule
        for rule in _rules(netlink)
        if rule.get_attr("FRA_PROTOCOL") == PROTOCOL and rule.get_attr("FRA_PRIORITY") in PRIORITIES
    ]


def _remove(netlink: IPRoute, rule: Any) -> None:
    destination = rule.get_attr("FRA_DST")
    where = {"dst": destination, "dst_len": rule["dst_len"]} if destination else {}
    with contextlib.suppress(NetlinkError):
        netlink.rule(
            "del",
            family=rule["family"],
            priority=rule.get_attr("FRA_PRIORITY"),
            table=rule.get_attr("FRA_TABLE"),
            action=rule["action"],
            FRA_PROTOCOL=PROTOCOL,
            **where,
        )


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
