"""What the workers know of a peer's terms: its rate limit, its quota, and where it may send to.

tun-reader    the outbound rate
link-reader   the inbound rate, and the networks
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun.lane.messages import SetTerms

if TYPE_CHECKING:
    from fastun.lane.lanes import Lanes
    from fastun.link.slotted_peer import SlottedPeer
    from fastun.peers.terms import Terms

# The burst of a limit that gives none: what a worker that was kept from running makes up for, and
# half of what may wait (csrc/loop/shaping.h).
BURST_S: Final = 0.05
BURST_BYTES_MIN: Final = 3_000
_BURST_BYTES_MAX: Final = 2**32 - 1  # as the workers take it


def send(lanes: Lanes, slotted: SlottedPeer, terms: Terms) -> None:
    """Send each role what holds the peer in the slot to ``terms``."""
    for role in ("tun-reader", "link-reader"):
        lanes.send(role, message_for(role, slotted, terms))


def message_for(role: str, slotted: SlottedPeer, terms: Terms) -> SetTerms:
    """Return what a tun-reader or link-reader is to hold the peer in the slot to."""
    quota = terms.quota
    is_over_quota = quota is not None and slotted.is_over_quota
    then_rate = quota.then_rate if quota is not None and is_over_quota else 0
    is_cut_off = is_over_quota and then_rate == 0
    rate = terms.limit.outbound
    to: tuple[tuple[bytes, int], ...] = ()
    if role == "link-reader":
        rate = terms.limit.inbound
        to = tuple((each.network_address.packed, each.prefixlen) for each in terms.to)
    lowest = min((each for each in (rate, then_rate) if each), default=0)
    burst = terms.limit.burst_bytes or max(round(lowest * BURST_S), BURST_BYTES_MIN)
    burst = min(burst, _BURST_BYTES_MAX)
    return SetTerms(slotted.slot, lowest, burst, is_cut_off, to)
