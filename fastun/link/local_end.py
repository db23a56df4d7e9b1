"""The local end of all sessions: what they work with on streams and on UDP alike."""

from __future__ import annotations

import msgspec

from fastun.config.settings import Settings
from fastun.host.inner_mtu import InnerMtu
from fastun.lane.session_lane import SessionLane
from fastun.link.key_exchange import KeyExchange, SessionCounts
from fastun.link.outside import Outside
from fastun.link.table import LinkTable
from fastun.session.timer_constants import TimerConstants
from fastun.state_file import StateFiles


class LocalEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The lane of sessions on UDP, the keys of this side, and what bounds both.

    ``constants`` are the protocol's, or compressed ones for a test. ``files`` are those of the
    state directory; None: this process may write there itself.
    """

    settings: Settings
    lane: SessionLane
    links: LinkTable
    exchange: KeyExchange
    outside: Outside
    inner_mtu: InnerMtu
    constants: TimerConstants
    counts: SessionCounts
    files: StateFiles | None = None
