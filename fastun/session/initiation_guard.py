"""A peer's replay rule for initiations (whitepaper section 5.1, Linux noise.c).

An initiation that is recorded and sent again would make the responder forget the peer's newer
handshake, at no cost to the sender. So its timestamp must be greater than any accepted before, by
20 ms of our own clock at least after the last.
"""

import msgspec

from fastun.session import tai64n
from fastun.session.protocol import INITIATION_INTERVAL_S
from fastun.session.refusal import HandshakeError, Refusal


class InitiationGuard(msgspec.Struct, gc=False):
    """What is remembered of one peer's accepted initiations. Keep it as long as the peer."""

    last_timestamp: bytes = tai64n.NEVER
    last_accepted_s: float | None = None

    def admit(self, timestamp: bytes, now_s: float) -> None:
        """Accept and remember the timestamp of an initiation that proved its sender.

        HandshakeError REPLAYED_TIMESTAMP or TOO_SOON; nothing is remembered then.
        """
        if timestamp <= self.last_timestamp:
            raise HandshakeError(Refusal.REPLAYED_TIMESTAMP)
        if (
            self.last_accepted_s is not None
            and now_s - self.last_accepted_s < INITIATION_INTERVAL_S
        ):
            raise HandshakeError(Refusal.TOO_SOON)
        self.last_timestamp = timestamp
        self.last_accepted_s = now_s
