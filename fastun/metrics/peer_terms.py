"""The metrics of peers' terms: rate limits, quotas, destinations and the end of their access.

A peer without such a term has no series of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.metrics.family import Family

if TYPE_CHECKING:
    from fastun.metrics.readings import Samples, Source


def _expiries(source: Source) -> Samples:
    """Yield when the access of each peer ends that has an end."""
    for peer in source.peers:
        if peer.view.terms.expires is not None:
            yield (peer.view.name,), peer.view.terms.expires


def _limited(source: Source) -> Samples:
    """Yield what each peer with a limit or a quota lost by them, by direction."""
    for peer in source.peers:
        terms = peer.view.terms
        for direction, rate in (
            ("outbound", terms.limit.outbound),
            ("inbound", terms.limit.inbound),
        ):
            n_packets = peer.view.counted[f"limited_{direction}_packets"]
            if rate is not None or terms.quota is not None or n_packets:
                yield (peer.view.name, direction), n_packets


def _not_permitted(source: Source) -> Samples:
    """Yield what each peer that may not reach all networks sent to others."""
    for peer in source.peers:
        n_packets = peer.view.counted["not_permitted_packets"]
        if peer.view.terms.to or n_packets:
            yield (peer.view.name,), n_packets


def _quotas(source: Source) -> Samples:
    """Yield the quota of each peer that has one."""
    for peer in source.peers:
        if peer.view.terms.quota is not None:
            yield (peer.view.name,), peer.view.terms.quota.month_bytes


def _quotas_used(source: Source) -> Samples:
    """Yield what each peer with a quota has used of it."""
    for peer in source.peers:
        if peer.view.terms.quota is not None:
            yield (peer.view.name,), peer.view.quota_used_bytes


PEER_TERMS: tuple[Family, ...] = (
    Family(
        "fastun_peer_limited_packets_total",
        "counter",
        ("peer", "direction"),
        "Packets dropped by the rate limit or the quota of the peer, of peers that have one.",
        _limited,
    ),
    Family(
        "fastun_peer_not_permitted_packets_total",
        "counter",
        ("peer",),
        "Packets from the peer to a destination that it may not reach, of peers with such a limit.",
        _not_permitted,
    ),
    Family(
        "fastun_peer_quota_bytes",
        "gauge",
        ("peer",),
        "Bytes that the peer may send and be sent in a month, of peers that have a quota.",
        _quotas,
    ),
    Family(
        "fastun_peer_quota_used_bytes",
        "gauge",
        ("peer",),
        "What the peer has used of its quota this month; 0 again on the first, UTC.",
        _quotas_used,
    ),
    Family(
        "fastun_peer_expiry_timestamp_seconds",
        "gauge",
        ("peer",),
        "Unix time at which the peer's access ends, of peers that have an end.",
        _expiries,
    ),
)
