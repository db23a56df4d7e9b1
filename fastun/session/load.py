"""Whether handshakes arrive faster than they are worked off (whitepaper section 5.3)."""

from dataclasses import dataclass

from fastun.session.protocol import UNDER_LOAD_HELD_S

_LOADED_FRACTION = 1 / 8  # of the handshake queue (Linux drivers/net/wireguard/receive.c)


@dataclass(slots=True)
class LoadGauge:
    """Tells load from the queue of handshakes; load is held for 1 s after it was last seen."""

    queue_capacity: int
    _last_seen_s: float = float("-inf")

    def observe(self, queue_length: int, now_s: float) -> bool:
        """Take note of the queue's length; return whether the responder is under load."""
        if queue_length >= self.queue_capacity * _LOADED_FRACTION:
            self._last_seen_s = now_s
        return now_s - self._last_seen_s < UNDER_LOAD_HELD_S
