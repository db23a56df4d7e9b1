"""The rules of ip-rule(8) that a tunnel may need, as data; routing_rules.py makes them.

    Level         a length of routes: what is not our own is led to the mark's table
    Unmarked      all that has no mark, whatever routes the main table has
    Beside        a network that this host goes on to reach without the tunnel

The last two are for a tunnel that takes everything (full_tunnel.py). Of an IP version that the
tunnel does not carry, a rule leads nowhere: packets are answered with "unreachable" at once.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from fastun.peers.peer import Network

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
_UNMARKED_PRIORITY: Final = _KNOWN_FIRST_PRIORITY - 2 * _LENGTH_MAX - 1
_BESIDE_PRIORITY: Final = _UNMARKED_PRIORITY - 1

#: All that our rules have.
PRIORITIES: Final = range(_BESIDE_PRIORITY, _KNOWN_FIRST_PRIORITY + 2)

_FIB_RULE_INVERT: Final = 2  # linux/fib_rules.h, as the next
_TO_TABLE, UNREACHABLE = 1, 7
_ALL_BITS: Final = 0xFFFFFFFF


class Level(NamedTuple):
    """The routes of one length that need rules."""

    version: int
    length: int
    is_blocked: bool = False

    @property
    def known_first(self) -> int:
        """The priority of the rule for longer routes of the main table."""
        return _KNOWN_FIRST_PRIORITY - 2 * self.length

    @property
    def unmarked(self) -> int:
        """The priority of the rule for what is not our own."""
        return self.known_first + 1

    def rules(self, mark: int) -> tuple[dict[str, Any], ...]:
        """Return what makes it, in the order in which to add it."""
        leading = _rule(self.version, self.unmarked, table_of(mark), is_blocked=self.is_blocked)
        leading |= {"flags": _FIB_RULE_INVERT, "fwmark": mark}
        if self.length:
            leading["FRA_SUPPRESS_PREFIXLEN"] = self.length - 1
        known = _rule(self.version, self.known_first, MAIN_TABLE)
        return leading, known | {"FRA_SUPPRESS_PREFIXLEN": self.length}


class Unmarked(NamedTuple):
    """What has no mark: a mark of another program's says that it has rules of its own."""

    version: int
    is_blocked: bool

    def rules(self, mark: int) -> tuple[dict[str, Any], ...]:
        """Return what makes it."""
        rule = _rule(self.version, _UNMARKED_PRIORITY, table_of(mark), is_blocked=self.is_blocked)
        return (rule | {"FRA_FWMARK": 0, "FRA_FWMASK": _ALL_BITS},)


class Beside(NamedTuple):
    """A network beside the tunnel."""

    network: Network

    @property
    def version(self) -> int:
        """Of IP."""
        return self.network.version

    def rules(self, mark: int) -> tuple[dict[str, Any], ...]:  # noqa: ARG002 (as the others)
        """Return what makes it."""
        rule = _rule(self.version, _BESIDE_PRIORITY, MAIN_TABLE)
        address, length = str(self.network.network_address), self.network.prefixlen
        return (rule | {"dst": address, "dst_len": length},)


Kind = Level | Unmarked | Beside


def table_of(mark: int) -> int:
    """Return the table for a mark: its number, but past where the kernel and people have theirs."""
    return mark if mark >= FIRST_MARK else FIRST_MARK + mark


def is_unmarked(rule: Any) -> bool:
    """Return whether a rule that the kernel gives is one of what has no mark."""
    return bool(rule.get_attr("FRA_PRIORITY") == _UNMARKED_PRIORITY)


def key_of(fields: dict[str, Any]) -> tuple[object, ...]:
    """Return what tells a rule from our others."""
    where = (fields.get("dst"), fields.get("dst_len", 0))
    return fields["family"], fields["priority"], fields["table"], fields["action"], where


def key_found(rule: Any) -> tuple[object, ...]:
    """Return the same of a rule that the kernel gives."""
    where = (rule.get_attr("FRA_DST"), rule["dst_len"])
    table = rule.get_attr("FRA_TABLE")
    return rule["family"], rule.get_attr("FRA_PRIORITY"), table, rule["action"], where


def _rule(version: int, priority: int, table: int, *, is_blocked: bool = False) -> dict[str, Any]:
    # A table that is not looked up says which gateway has made the rule.
    return {
        "family": FAMILIES[version],
        "priority": priority,
        "table": table,
        "action": UNREACHABLE if is_blocked else _TO_TABLE,
        "FRA_PROTOCOL": PROTOCOL,
    }
