"""Says what keeps a host from forwarding: other programs' rules, an interface that is not there.

Both can come and go while the gateway runs: Docker sets its policy when it starts, an interface
whose packets are to be masqueraded may appear an hour later, and then its rule applies at once.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.host.firewall import forward_check

if TYPE_CHECKING:
    from fastun.host.condition import Condition
    from fastun.host.firewall.forwarding import Forwarding

# Rules of iptables before nftables change without a report.
_AT_LEAST_EVERY_S: Final = 60.0
_SHARE_MAX: Final = 0.05  # of the time, where there are many rules that change all the time


class ForwardWatch:
    """Of one device. One thread at a time."""

    def __init__(self, forwarding: Forwarding, condition: Condition) -> None:
        """Begin before anything was looked at."""
        self._forwarding = forwarding
        self._condition = condition
        self._obstacles: tuple[str, ...] = ()
        self._ways: object = None  # that the rules were read for
        self._due_s = self._due_anyway_s = float("-inf")
        self._said: frozenset[str] = frozenset()
        self._log = log.get("device")

    def look(self, *, have_rules_changed: bool, refused: tuple[str, ...] = ()) -> bool:
        """Update the condition; return whether the rules are still to be read.

        ``have_rules_changed``: those of other programs, since they were read the last time.
        ``refused`` is what could not be made of what is wanted.
        """
        if self._forwarding.wanted is None:
            self._condition.forwarding = refused
            return False
        is_due = have_rules_changed or self._ways != self._forwarding.ways
        now = time.monotonic()
        if (is_due and now >= self._due_s) or now >= self._due_anyway_s:
            self._read_rules(now)
            is_due = False
        self._condition.forwarding = (*refused, *self._missing(), *self._obstacles)
        self._say(frozenset(self._condition.forwarding) - set(refused))
        return is_due

    def _read_rules(self, begun: float) -> None:
        self._ways = ways = self._forwarding.ways
        found = forward_check.find(self._forwarding.interface, ways)
        self._obstacles = tuple(map(str, found))
        took = time.monotonic() - begun
        self._due_s = begun + took / _SHARE_MAX
        self._due_anyway_s = begun + _AT_LEAST_EVERY_S

    def _missing(self) -> list[str]:
        wanted = self._forwarding.wanted
        names = wanted.masquerade if wanted is not None else ()
        if isinstance(names, bool) or not names:
            return []
        present = {name for _, name in socket.if_nameindex()}
        return [
            f"forward.masquerade: waiting for interface {name}, which this host does not have"
            for name in names
            if name not in present
        ]

    def _say(self, found: frozenset[str]) -> None:
        for each in sorted(found - self._said):
            self._log.warning(each)
        if self._said - found and not found:
            self._log.info("nothing is in the way of forwarding any more")
        self._said = found
