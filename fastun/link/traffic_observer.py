"""What the workers have sent and received of a session, for its timers.

The workers only write times and counters into the peer table; it is read now and then.
"""

from __future__ import annotations

import msgspec

from fastun.lane.session_lane import SessionTable
from fastun.session.timers import PeerTimers

_NS_PER_S = 1e9

# How often it is read: a tenth of the shortest timer (5 s) is near enough, and a thousand peers
# cost some milliseconds.
TICK_S = 0.5


class Observer(msgspec.Struct):
    """Reads one slot of the peer table for one peer's timers."""

    table: SessionTable
    slot: int
    timers: PeerTimers
    # As seen last, named as in the table.
    received_ns: int = 0
    received_data_ns: int = 0
    sent_ns: int = 0
    sent_data_ns: int = 0

    def skip(self) -> None:
        """Take what has been so far as known: it was another session's."""
        self._news()

    def observe(self) -> None:
        """Tell the timers what is new, in the order in which it happened."""
        counter = self.table.read(self.slot, "sealed")
        n_blocks = self.table.read(self.slot, "sealed_blocks")
        for at_ns, what in sorted(self._news()):
            at_s = at_ns / _NS_PER_S
            match what:
                case "received":
                    self.timers.on_keepalive_received(at_s)
                case "received_data":
                    self.timers.on_data_received(at_s)
                case "sent":
                    self.timers.on_keepalive_sent(at_s, counter)
                case "sent_data":
                    self.timers.on_data_sent(at_s, counter, n_blocks)

    def _news(self) -> list[tuple[int, str]]:
        """Return what has happened since the last time: when, and what.

        Data counts as a message as well: behind the last data there was a keepalive, or nothing.
        """
        news = []
        for message, data in (("received", "received_data"), ("sent", "sent_data")):
            # In the order in which the worker writes them: of data the second is no older.
            message_at, data_at = f"{message}_ns", f"{data}_ns"
            message_ns = self.table.read(self.slot, message_at)
            data_ns = self.table.read(self.slot, data_at)
            if data_ns > getattr(self, data_at):
                news.append((data_ns, data))
            if message_ns > max(data_ns, getattr(self, message_at)):
                news.append((message_ns, message))
            setattr(self, data_at, data_ns)
            setattr(self, message_at, max(message_ns, data_ns))
        return news
