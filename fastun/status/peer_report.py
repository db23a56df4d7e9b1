"""The peers in ``fastun status``: a line each, and what is to be known of some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fastun.config.quantity import format_size as size
from fastun.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.status.reply import PeerStatus

# The end of a peer's access is shown from a week before.
_END_SHOWN_S = 7 * 86400

# A quota is shown from this share of it on.
_QUOTA_SHOWN = 0.8


def lines(
    peers: list[PeerStatus], now: float, n_down_max: int, *, is_sealed: bool
) -> Iterable[Table | Text | str]:
    """Yield a table of the peers, at most ``n_down_max`` of them not connected, and their news."""
    shown, n_more = _shown(peers, n_down_max)
    if shown:
        yield _peers(shown, now, is_sealed=is_sealed)
    if n_more:
        yield f"and {n_more:,} more, not connected; 'fastun status --all' shows them"
    yield from _last_errors(peers, now, n_down_max)
    yield from _ends(peers, now)
    yield from _quotas(peers)


def _shown(peers: list[PeerStatus], n_down_max: int) -> tuple[list[PeerStatus], int]:
    """Return the connected peers and some others, those first, and how many are left out.

    Of those that are not connected, the ones whose last handshake is the most recent come first.
    """
    up = [peer for peer in peers if peer.up]
    down = [peer for peer in peers if not peer.up]
    down.sort(key=lambda peer: -(peer.last_handshake_unix_seconds or 0))
    return up + down[:n_down_max], max(0, len(down) - n_down_max)


def _peers(peers: list[PeerStatus], now: float, *, is_sealed: bool) -> Table:
    """Return a line a peer."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("peer", overflow="fold")
    table.add_column("via", no_wrap=True)
    table.add_column("remote", overflow="fold")
    headings = ["up", "RTT", "received", "sent", *(["handshake"] if is_sealed else [])]
    if any(peer.mac_address_count is not None for peer in peers):
        headings.append("MACs")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for peer in peers:
        cells = _peer_cells(peer, now)
        table.add_row(*cells[: 3 + len(headings)], style="" if peer.up else "dim")
    return table


def _last_errors(peers: list[PeerStatus], now: float, n_max: int) -> Iterable[Text]:
    """Yield why peers are not connected, the newest first."""
    found = [(peer, peer.last_error) for peer in peers if peer.last_error is not None]
    found.sort(key=lambda each: each[1].unix_seconds, reverse=True)
    for peer, error in found[:n_max]:
        ages = f"{_age(error.unix_seconds, now, '')} ago"
        first = error.first_unix_seconds
        if first is not None and error.unix_seconds - first >= 1:
            ages += f", errors for {_age(first, now, '')}"
        yield Text(f"{one_line(peer.name)}: {one_line(error.text)} ({ages})", style="yellow")


def _ends(peers: list[PeerStatus], now: float) -> Iterable[Text]:
    """Yield whose access ends within a week, the next first."""
    found = [(peer.expires_unix_seconds or 0, peer) for peer in peers]
    for expires, peer in sorted(found, key=lambda each: each[0]):
        if now < expires < now + _END_SHOWN_S:
            text = f"{one_line(peer.name)}: its access ends in {duration(expires - now)}"
            yield Text(text, style="yellow")


def _quotas(peers: list[PeerStatus]) -> Iterable[Text]:
    """Yield whose quota is nearly used up, or is."""
    for peer in peers:
        terms = peer.terms
        if terms is None or not terms.quota_bytes:
            continue
        if terms.quota_used_bytes >= _QUOTA_SHOWN * terms.quota_bytes:
            used, all_of_it = size(terms.quota_used_bytes), size(terms.quota_bytes)
            text = f"{one_line(peer.name)}: {used} of its quota of {all_of_it} a month used"
            yield Text(text, style="yellow")


def _peer_cells(peer: PeerStatus, now: float) -> list[Text]:
    tcp = None if peer.link is None else peer.link.tcp
    return [
        Text(peer.name),
        Text("" if peer.link is None else peer.link.transport),
        Text(remote_of(peer)),
        Text(_age(peer.since_unix_seconds, now, "")),
        Text("" if tcp is None else f"{tcp.rtt_seconds * 1e3:.2f} ms"),
        Text(size(peer.receive_bytes)),
        Text(size(peer.transmit_bytes)),
        Text(_age(peer.last_handshake_unix_seconds, now, "never")),
        Text("" if peer.mac_address_count is None else f"{peer.mac_address_count:,}"),
    ]


def _age(since_unix_seconds: float | None, now: float, if_none: str) -> str:
    """Return how long ago something was, in its largest unit."""
    if since_unix_seconds is None:
        return if_none
    return " ".join(duration(now - since_unix_seconds).split()[:2])


def remote_of(peer: PeerStatus) -> str:
    """Return host and port; that of a peer that was dialled comes as a URL."""
    return "not connected" if peer.remote is None else one_line(peer.remote).rpartition("//")[2]


def duration(seconds: float) -> str:
    """Return the two largest units of a time span."""
    whole = max(0, int(seconds))
    parts = (
        (whole // 86400, "d"),
        (whole // 3600 % 24, "h"),
        (whole // 60 % 60, "min"),
        (whole % 60, "s"),
    )
    first = next((i for i, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])
