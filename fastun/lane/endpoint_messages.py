"""Where a peer is on UDP, as the link-reader hears it."""

from __future__ import annotations

from fastun.lane.messages import ToWorker


class SetEndpoint(ToWorker, frozen=True, tag="set-endpoint"):
    """To the link-reader: where the peer is on UDP, a packed UdpAddress.

    ``only_by``: what comes under keys that are older than the one of that index moves it no more,
    since it is from another gateway; 0: whatever is authentic does.
    """

    slot: int
    endpoint: bytes
    only_by: int = 0
