"""A peer's terms in words, for the commands that change and list them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.config.quantity import format_moment, format_rate, format_size

if TYPE_CHECKING:
    from fastun.peers.terms import RateLimit, Terms


def said(terms: Terms) -> dict[str, str]:
    """Return those that are not as usual, each under what it is called."""
    parts = {
        "enabled": "" if terms.enabled else "disabled",
        "end": "" if terms.expires is None else f"expires {format_moment(terms.expires)}",
        "limit": _limit(terms.limit),
        "quota": _quota(terms),
        "restriction": f"to {' '.join(map(str, terms.to))}" if terms.to else "",
        "note": f"note: {terms.note}" if terms.note else "",
    }
    return {what: text for what, text in parts.items() if text}


def _limit(limit: RateLimit) -> str:
    rates = (limit.outbound, limit.inbound)
    if rates == (None, None):
        return ""
    burst = f", burst {format_size(limit.burst_bytes)}" if limit.burst_bytes else ""
    if limit.outbound == limit.inbound and limit.outbound is not None:
        return f"limit {format_rate(limit.outbound)}{burst}"
    texts = ("none" if rate is None else format_rate(rate) for rate in rates)
    return "limit {} outbound, {} inbound".format(*texts) + burst


def _quota(terms: Terms) -> str:
    if terms.quota is None:
        return ""
    then = f", then {format_rate(terms.quota.then_rate)}" if terms.quota.then_rate else ""
    return f"quota {format_size(terms.quota.month_bytes)} a month{then}"
