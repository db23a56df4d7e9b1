"""What the workers have sent and received of a session, told to its timers.

The workers write times and counters into the peer table and tell nobody; it is read now and then.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastun._native import PeerTable
from fastun.session.timers import PeerTimers

_NS_PER_S = 1e9


@dataclass
class Observer:
    """Reads one slot of the peer table for one peer's timers."""

    table: PeerTable
    slot: int
    timers: PeerTimers
    _seen_ns: dict[str, int] = field(default_factory=dict)

    def skip(self) -> None:
        """Take what has been so far as known: it was another session's."""
        for name in ("received_ns", "received_data_ns", "sent_ns", "sent_data_ns"):
            self._news(name)

    def observe(self) -> None:
        """Tell the timers what is new."""
        counter = self.table.read(self.slot, "sealed")
        if at_s := self._news("received_data_ns"):
            self.timers.on_data_received(at_s)
        elif at_s := self._news("received_ns"):
            self.timers.on_keepalive_received(at_s)
        if at_s := self._news("sent_data_ns"):
            self.timers.on_data_sent(at_s, counter)
        elif at_s := self._news("sent_ns"):
            self.timers.on_keepalive_sent(at_s, counter)

    def _news(self, name: str) -> float | None:
        """Return the time in a field of the peer table, if it is a new one."""
        value = self.table.read(self.slot, name)
        if value <= self._seen_ns.get(name, 0):
            return None
        self._seen_ns[name] = value
        return value / _NS_PER_S
