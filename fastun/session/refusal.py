"""Why a message is refused. The reason is for counters only: nothing refused is ever answered."""

from enum import StrEnum


class Refusal(StrEnum):
    """One reason each; the values are the metrics' label values."""

    BAD_LENGTH = "bad_length"  # not the size of its type
    BAD_TYPE = "bad_type"  # not the type expected here, or its reserved bytes are not zero
    BAD_MAC1 = "bad_mac1"  # the sender does not know the receiver's public key
    QUEUE_FULL = "queue_full"  # too many handshakes wait already
    INSIDE_TUNNEL = "inside_tunnel"  # from an address whose route leads into the tunnel
    TOO_MANY = "too_many"  # over the limit a second of all sources together
    LOW_ORDER_POINT = "low_order_point"  # a public key that makes every shared secret zero
    BAD_STATIC = "bad_static"  # the initiator's public key does not open
    BAD_TIMESTAMP = "bad_timestamp"  # the initiator does not hold that key's private half
    UNKNOWN_PEER = "unknown_peer"  # authentic, but no peer of ours
    DRAINING = "draining"  # authentic, but this gateway is drained, and begins no session
    NO_SLOT = "no_slot"  # authentic, but as many peers are connected as can be
    REPLAYED_TIMESTAMP = "replayed_timestamp"  # not newer than the peer's last
    TOO_SOON = "too_soon"  # within 20 ms of the peer's last
    UNKNOWN_INDEX = "unknown_index"  # answers a handshake or names a session that is not there
    BAD_PSK_OR_KEY = "bad_psk_or_key"  # the response does not open
    BAD_COOKIE = "bad_cookie"  # the cookie reply does not open, or nothing had asked for one
    COUNTER_LIMIT = "counter_limit"  # the session's key has sealed all it may
    BAD_TAG = "bad_tag"  # the data message does not open


class HandshakeError(Exception):
    """A message is refused. `reason` says why; the peer's present session is untouched."""

    def __init__(self, reason: Refusal) -> None:
        """Keep the reason."""
        super().__init__(reason.value)
        self.reason = reason
