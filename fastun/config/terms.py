"""A peer's terms from what was written of them, and in words.

The commands of `fastun peer` and the `[[peer]]` sections of a file are read by the same rules.
Each complaint starts with the place that the caller has for the field.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import structs

from fastun.config.networks import parse_networks, split
from fastun.config.quantity import (
    format_moment,
    format_rate,
    format_size,
    parse_date,
    parse_moment,
    parse_rate,
    parse_size,
)
from fastun.errors import ConfigError, quote
from fastun.peers.terms import TO_MAX, Quota, RateLimit, Terms

if TYPE_CHECKING:
    from fastun.peers.peer import Network
    from fastun.vocabulary import Mode

NONE: Final = "none"
NEVER: Final = "never"
ALL: Final = "all"

BURST_MIN: Final = 3_000
BURST_MAX: Final = 10**9
BURSTS: Final = "3kB to 1GB"

NOTE_CHARS_MAX: Final = 200


class TermsText(msgspec.Struct, frozen=True, kw_only=True):
    """What was written of a peer's terms, unchecked. None and empty leave a term as it is."""

    expires: str | None = None
    limit: str | None = None
    outbound: str | None = None
    inbound: str | None = None
    burst: str | None = None
    quota: str | None = None
    quota_then: str | None = None
    to: tuple[str, ...] = ()
    note: str | None = None


_NOTHING: Final = TermsText()

# Makes the place of a field of TermsText.
Where = Callable[[str], str]


def changed(terms: Terms, text: TermsText, where: Where, *, mode: Mode, now: float | None) -> Terms:
    """Return the terms as they are to be. Raises ConfigError.

    `mode` is the device's. Durations begin at `now`, Unix time; None: in a file, which is read
    again, so that they have no beginning, and where a date passes.
    """
    if text == _NOTHING:
        return terms
    terms = structs.replace(
        terms, limit=_limit(terms.limit, text, where), quota=_quota(terms.quota, text, where)
    )
    if text.to:
        terms = structs.replace(terms, to=_to(text.to, where("to"), mode))
    if text.expires is not None:
        terms = structs.replace(terms, expires=_expires(text.expires, where("expires"), now))
    if text.note is not None:
        terms = structs.replace(terms, note=_note(text.note, where("note")))
    return terms


def _rate(text: str, where: str) -> int | None:
    return None if text == NONE else parse_rate(text, where)


def _limit(limit: RateLimit, text: TermsText, where: Where) -> RateLimit:
    if text.limit is not None:
        both = _rate(text.limit, where("limit"))
        # A burst was chosen for the rate that it came with.
        limit = RateLimit(outbound=both, inbound=both)
    if text.outbound is not None:
        limit = structs.replace(limit, outbound=_rate(text.outbound, where("outbound")))
    if text.inbound is not None:
        limit = structs.replace(limit, inbound=_rate(text.inbound, where("inbound")))
    if text.burst is not None:
        place = where("burst")
        if limit.outbound is None and limit.inbound is None:
            raise ConfigError(f"{place}: the peer has no limit; give a rate too")
        burst = parse_size(text.burst, place)
        if not BURST_MIN <= burst <= BURST_MAX:
            raise ConfigError(f"{place}: {text.burst} is out of range ({BURSTS})")
        limit = structs.replace(limit, burst_bytes=burst)
    return limit


def _quota(quota: Quota | None, text: TermsText, where: Where) -> Quota | None:
    if text.quota is not None:
        size = None if text.quota == NONE else parse_size(text.quota, where("quota"))
        quota = None if size is None else Quota(month_bytes=size)
    if text.quota_then is not None:
        place = where("quota_then")
        if quota is None:
            raise ConfigError(f"{place}: the peer has no quota; give its size too")
        quota = structs.replace(quota, then_rate=_rate(text.quota_then, place) or 0)
    return quota


def _to(texts: tuple[str, ...], where: str, mode: Mode) -> tuple[Network, ...]:
    if texts == (ALL,):
        return ()
    if mode == "tap":
        raise ConfigError(
            f"{where}: in tap mode the device carries Ethernet frames, whose destinations are not"
            " checked; use a device in tun mode"
        )
    networks = parse_networks(split(texts), where)
    if len(networks) > TO_MAX:
        raise ConfigError(f"{where}: {len(networks)} networks; at most {TO_MAX}, use larger ones")
    return networks


def _expires(text: str, where: str, now: float | None) -> int | None:
    if text == NEVER:
        return None
    return parse_date(text, time.time(), where) if now is None else parse_moment(text, now, where)


def _note(text: str, where: str) -> str:
    if len(text) > NOTE_CHARS_MAX or not (text.isprintable() or not text):
        raise ConfigError(
            f"{where}: {quote(text[:40])} must be a line of at most {NOTE_CHARS_MAX} printable"
            " characters; shorten it"
        )
    return text


# -- in words ---------------------------------------------------------------------------------


def said(terms: Terms) -> dict[str, str]:
    """Return those that are not as usual, each under what it is called."""
    parts = {
        "enabled": "" if terms.enabled else "disabled",
        "end": "" if terms.expires is None else f"expires {format_moment(terms.expires)}",
        "limit": _said_limit(terms.limit),
        "quota": _said_quota(terms),
        "restriction": f"to {' '.join(map(str, terms.to))}" if terms.to else "",
        "note": f"note: {terms.note}" if terms.note else "",
    }
    return {what: text for what, text in parts.items() if text}


def gone(before: Terms, now: Terms) -> list[str]:
    """Return in words which terms of before are as usual now."""
    missing = said(before).keys() - said(now).keys() - {"enabled"}
    return [f"no {what}" for what in sorted(missing)]


def said_changes(before: Terms, now: Terms) -> list[str]:
    """Return in words what differs."""
    was = said(before)
    return [text for what, text in said(now).items() if was.get(what) != text] + gone(before, now)


def _said_limit(limit: RateLimit) -> str:
    rates = (limit.outbound, limit.inbound)
    if rates == (None, None):
        return ""
    burst = f", burst {format_size(limit.burst_bytes)}" if limit.burst_bytes else ""
    if limit.outbound == limit.inbound and limit.outbound is not None:
        return f"limit {format_rate(limit.outbound)}{burst}"
    texts = ("none" if rate is None else format_rate(rate) for rate in rates)
    return "limit {} outbound, {} inbound".format(*texts) + burst


def _said_quota(terms: Terms) -> str:
    if terms.quota is None:
        return ""
    then = f", then {format_rate(terms.quota.then_rate)}" if terms.quota.then_rate else ""
    return f"quota {format_size(terms.quota.month_bytes)} a month{then}"
