"""The rules by which a default route takes all packets into the tunnel but the tunnel's own.

It is in a table of its own, which all packets use except those with our mark (ip-rule(8)):

    32764: from all lookup main suppress_prefixlength 0     known networks first, but no default
    32765: not from all fwmark MARK lookup TABLE            what is not our own goes into the tunnel
    32766: from all lookup main                             our own goes on as ever

That is wg-quick(8)'s way. Routes go with their device, however the gateway ends; rules stay after a
SIGKILL, until the next start undoes them (journal.py). Leading to an empty table they change
nothing: a rule of ours with no route in its table is stale. So a route is made before its rule.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any, Final

from fastun.host.iproute import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.host.iproute import IPRoute

# The kernel shows the maker of a route or a rule; routing daemons leave alone what is not theirs.
PROTOCOL: Final = 99

FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
MAIN_TABLE: Final = 254  # linux/rtnetlink.h

# WireGuard's port, and the first mark that wg-quick(8) tries.
FIRST_MARK: Final = 51820

# Before the main table's rule, which the kernel has at 32766.
_KNOWN_FIRST_PRIORITY = 32764
_UNMARKED_PRIORITY = 32765
_FIB_RULE_INVERT = 2  # linux/fib_rules.h


def free_mark(netlink: IPRoute) -> int:
    """Return the first mark that is the number of nothing: of no rule's mark, and no table."""
    taken = {
        rule.get_attr(name) for rule in _rules(netlink) for name in ("FRA_FWMARK", "FRA_TABLE")
    }
    taken |= {route.get_attr("RTA_TABLE") for route in netlink.get_routes()}
    mark = FIRST_MARK
    while mark in taken:
        mark += 1
    return mark


def table_of(mark: int) -> int:
    """Return the table for a mark: its number, but past where the kernel and people have theirs."""
    return mark if mark >= FIRST_MARK else FIRST_MARK + mark


def install(netlink: IPRoute, version: int, mark: int) -> None:
    """Lead packets of an IP version to the mark's table but where they carry it."""
    ours = {"family": FAMILIES[version], "FRA_PROTOCOL": PROTOCOL}
    for rule in (
        {
            "priority": _UNMARKED_PRIORITY,
            "flags": _FIB_RULE_INVERT,
            "fwmark": mark,
            "table": table_of(mark),
        },
        {"priority": _KNOWN_FIRST_PRIORITY, "table": MAIN_TABLE, "FRA_SUPPRESS_PREFIXLEN": 0},
    ):
        try:
            netlink.rule("add", **rule, **ours)
        except NetlinkError as error:
            if error.code != errno.EEXIST:  # The second may be there for another tunnel.
                raise


def remove(netlink: IPRoute, mark: int) -> bool:
    """Undo `install` for both versions; rules in use by others, or removed, are not an error.

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
        leading = [rule for rule in ours if rule.get_attr("FRA_FWMARK")]
        living = [
            rule
            for rule in leading
            if list(netlink.get_routes(family=family, table=rule.get_attr("FRA_TABLE")))
        ]
        for rule in ours if not living else leading:
            if rule not in living:
                _remove(netlink, rule)
    return any(mark and rule.get_attr("FRA_FWMARK") == mark for rule in _ours(netlink))


def leads_any(netlink: IPRoute) -> bool:
    """Return whether a living gateway has a default route over IPv4, whatever its mark."""
    return any(
        rule["family"] == socket.AF_INET
        and rule.get_attr("FRA_FWMARK")
        and list(netlink.get_routes(family=socket.AF_INET, table=rule.get_attr("FRA_TABLE")))
        for rule in _ours(netlink)
    )


def _rules(netlink: IPRoute) -> Iterator[Any]:
    for family in FAMILIES.values():
        yield from netlink.get_rules(family=family)


def _ours(netlink: IPRoute) -> list[Any]:
    return [
        rule
        for rule in _rules(netlink)
        if rule.get_attr("FRA_PROTOCOL") == PROTOCOL
        and rule.get_attr("FRA_PRIORITY") in (_KNOWN_FIRST_PRIORITY, _UNMARKED_PRIORITY)
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
