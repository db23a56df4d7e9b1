"""A peer that may connect, with what is kept of it while it has a slot or has none."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from fastun.config.push import Push
from fastun.link.last_error import PeerErrors
from fastun.native import PEER_SLOTS
from fastun.peers.peer import Peer
from fastun.session.initiation_guard import InitiationGuard

# That of absent peers; the workers drop what is for it (csrc/shared/peer_table.h).
NO_SLOT: Final = PEER_SLOTS

# A peer without a link keeps its slot so long: after its link has ended, and while its handshake
# may be under way.
ENDED_S: Final = 1.0
HANDSHAKE_S: Final = 6.0


_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class SlottedPeer(msgspec.Struct):
    """A peer in its slot, or absent. What is kept of earlier slots is in ``counted``."""

    slot: int
    peer: Peer
    guard: InitiationGuard = msgspec.field(default_factory=InitiationGuard)
    pushed_keepalive_s: int = 0  # 0: none
    counted: Mapping[str, int] = msgspec.field(default_factory=lambda: _NOTHING)  # by PEER_FIELDS
    last_handshake: float | None = None  # in earlier slots; Unix time
    used_s: float = float("-inf")  # when it had a link, or a handshake; CLOCK_BOOTTIME
    was_linked: bool = False  # since that handshake
    pushed: Push | None = None  # what it has from us, in its last hello or later
    is_over_quota: bool = False
    quota_used_bytes: int = 0  # this month, where there is a quota
    errors: PeerErrors = msgspec.field(default_factory=PeerErrors)  # what keeps it from connecting

    @property
    def keepalive_s(self) -> int | None:
        """The interval of persistent keepalives: the configured one, else the pushed one."""
        return self.peer.keepalive_s or self.pushed_keepalive_s or None

    def is_idle(self, now_s: float) -> bool:
        """Return whether the peer, which has no link, does not need its slot."""
        return now_s - self.used_s >= (ENDED_S if self.was_linked else HANDSHAKE_S)
