"""What a peer may use: until when, how fast, how much, and which networks.

None of it changes the peer's keys or addresses, so all of it changes without ending a session.
Rates are bytes of inner packets a second, before they are sealed; a month is a calendar month, UTC.
"""

from __future__ import annotations

import time
from ipaddress import IPv4Network, IPv6Network
from typing import Final, NamedTuple

import msgspec

# As many networks the data path looks through (REACH_MAX, csrc/fastun.h).
TO_MAX: Final = 64


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes a second in each direction, None where there is no limit.

    `burst_bytes` may pass at once after a pause; 0: what fits the rate.
    """

    outbound: int | None = None
    inbound: int | None = None
    burst_bytes: int = 0


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes a month, of both directions together.

    Once they are used up `then_rate` is left, bytes a second in each direction; 0: nothing passes.
    """

    month_bytes: int
    then_rate: int = 0


NO_LIMIT = RateLimit()


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of one peer. `expires` is Unix time, None for never; `to` is empty for all."""

    enabled: bool = True
    expires: int | None = None
    limit: RateLimit = NO_LIMIT
    quota: Quota | None = None
    to: tuple[IPv4Network | IPv6Network, ...] = ()
    note: str = ""

    def barred(self, now: float) -> str:
        """Return why the peer may not connect at `now`, Unix time; empty where it may."""
        if not self.enabled:
            return "disabled"
        return "expired" if self.expires is not None and self.expires <= now else ""


USUAL = Terms()


class Usage(NamedTuple):
    """What a peer with a quota has used of it in a month, as in 2026-11."""

    month: str
    n_bytes: int


def month_of(now: float) -> str:
    """Return the month of a Unix time, UTC."""
    return time.strftime("%Y-%m", time.gmtime(now))
