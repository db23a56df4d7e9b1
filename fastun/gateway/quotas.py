"""What peers with a quota have used of it this month, and what that leaves them. Event loop only.

Both directions count, in bytes of inner frames, as the metrics count them; a month is a calendar
month, UTC. What was used is saved now and then, so a gateway that is killed forgets SAVE_S at most.
A session is never ended: a peer that is over its quota is cut off, or slowed, until the next month
or until its quota is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.native import bounded
from fastun.peers.terms import Usage, month_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastun.host.served_peers import ServedPeers
    from fastun.link.peer_slots import PeerSlots, SlottedPeer
    from fastun.peers.terms import Quota

# A disk is written as often.
SAVE_S: Final = 30.0

_COUNTED: Final = ("receive_bytes", "transmit_bytes")


class Quotas:
    """The quotas of the peers in the slots."""

    def __init__(self, peer_slots: PeerSlots, stored: Mapping[str, Usage]) -> None:
        """Go on from what was ``stored``, by the names of peers."""
        self._peer_slots = peer_slots
        self._stored = dict(stored)
        self._used: dict[bytes, Usage] = {}  # by key
        self._counted: dict[bytes, int] = {}  # what its counters were at the last look
        self._unsaved: dict[str, Usage] = {}
        self._saved: float | None = None
        self._log = log.get("peers")

    def tick(self, now: float) -> None:
        """Count what has passed since the last look; ``now`` is Unix time."""
        month = month_of(now)
        with_quota = {
            slotted.peer.public_key: slotted
            for slotted in self._all()
            if slotted.peer.terms.quota is not None
        }
        for key in self._counted.keys() - with_quota.keys():
            del self._counted[key]
            self._peer_slots.set_over_quota(key, is_over=False)
        for key, slotted in with_quota.items():
            quota = slotted.peer.terms.quota
            assert quota is not None  # noqa: S101 (as asked for above)
            self._count(key, slotted, month)
            self._judge(key, slotted, quota)

    def _all(self) -> Iterable[SlottedPeer]:
        yield from self._peer_slots.by_slot.values()
        yield from self._peer_slots.absent.values()

    def _count(self, key: bytes, slotted: SlottedPeer, month: str) -> None:
        used = self._used.get(key) or self._stored.get(slotted.peer.name) or Usage(month, 0)
        if used.month != month:
            used = Usage(month, 0)
        total = sum(self._peer_slots.count_of(slotted, field) for field in _COUNTED)
        # Less than before: the peer was given up and came back, with new counters.
        before = self._counted.get(key, total)
        n_more = total - before if total >= before else total
        self._counted[key] = total
        after = Usage(month, bounded(used.n_bytes + n_more))
        if after != self._used.get(key):
            self._used[key] = self._unsaved[slotted.peer.name] = after
        slotted.quota_used_bytes = after.n_bytes

    def _judge(self, key: bytes, slotted: SlottedPeer, quota: Quota) -> None:
        is_over = slotted.quota_used_bytes >= quota.month_bytes
        if is_over == slotted.is_over_quota:
            return
        self._peer_slots.set_over_quota(key, is_over=is_over)
        if is_over:
            self._log.warning(
                "the peer has used up its quota of the month; 'fastun peer quota' raises it",
                peer=slotted.peer.name,
                quota_bytes=quota.month_bytes,
                left="slowed" if quota.then_rate else "nothing passes",
            )
        else:
            self._log.info("the peer is within its quota again", peer=slotted.peer.name)

    def save(self, directory: ServedPeers, now: float, *, at_once: bool = False) -> None:
        """Keep what was used, if it is time. Raises RuntimeFailure; the next call tries again."""
        if self._saved is None:
            self._saved = now
        is_time = at_once or not 0 <= now - self._saved < SAVE_S
        if self._unsaved and is_time:
            self._saved = now
            directory.remember_usage(self._unsaved)
            self._unsaved = {}
