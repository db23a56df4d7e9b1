"""The rules of ip-rule(8) that a tunnel may need, as data; routing_rules.py makes them.

    Level         a length of routes: what is not our own is led to the mark's table
    Unmarked      all that has no mark, whatever routes the main table has
    Beside        a network that this host goes on to reach without the tunnel

The last two are for a tunnel that takes everything (full_tunnel.py). Of an IP version that the
tunnel does not carry, a rule leads nowhere: packets are answered with "unreachable" at once.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import structs

from fastun.host.netlink.rules import TO_TABLE, UNREACHABLE, Rule

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

    def rules(self, mark: int) -> tuple[Rule, ...]:
        """Return what makes it, in the order in which to add it."""
        leading = _rule(self.version, self.unmarked, table_of(mark), is_blocked=self.is_blocked)
        leading = structs.replace(leading, mark=mark, is_inverted=True, suppressed=self.length - 1)
        known = _rule(self.version, self.known_first, MAIN_TABLE)
        return leading, structs.replace(known, suppressed=self.length)


class Unmarked(NamedTuple):
    """What has no mark: a mark of another program's says that it has rules of its own."""

    version: int
    is_blocked: bool

    def rules(self, mark: int) -> tuple[Rule, ...]:
        """Return what makes it."""
        rule = _rule(self.version, _UNMARKED_PRIORITY, table_of(mark), is_blocked=self.is_blocked)
        return (structs.replace(rule, mask=_ALL_BITS),)


class Beside(NamedTuple):
    """A network beside the tunnel."""

    network: Network

    @property
    def version(self) -> int:
        """Of IP."""
        return self.network.version

    def rules(self, mark: int) -> tuple[Rule, ...]:  # noqa: ARG002 (as the others)
        """Return what makes it."""
        rule = _rule(self.version, _BESIDE_PRIORITY, MAIN_TABLE)
        return (structs.replace(rule, destination=self.network),)


Kind = Level | Unmarked | Beside


def table_of(mark: int) -> int:
    """Return the table for a mark: its number, but past where the kernel and people have theirs."""
    return mark if mark >= FIRST_MARK else FIRST_MARK + mark


def is_unmarked(rule: Rule) -> bool:
    """Return whether a rule that the kernel gives is one of what has no mark."""
    return rule.priority == _UNMARKED_PRIORITY


def key_of(rule: Rule) -> tuple[object, ...]:
    """Return what tells a rule from our others."""
    return rule.family, rule.priority, rule.table, rule.action, rule.destination


def _rule(version: int, priority: int, table: int, *, is_blocked: bool = False) -> Rule:
    # A table that is not looked up says which gateway has made the rule.
    return Rule(
        family=FAMILIES[version],
        priority=priority,
        table=table,
        action=UNREACHABLE if is_blocked else TO_TABLE,
        maker=PROTOCOL,
    )
