"""`fastun peer list` and `fastun peer show`: peers as a table of 80 columns, as lines, as JSON.

Keys, addresses and terms are those of the directory; handshakes and traffic those of the gateway
that runs, since its start.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastun.config import terms as terms_text
from fastun.config.quantity import format_size
from fastun.peers.terms import Usage, month_of
from fastun.session.keys import format_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastun.peers.peer import Peer
    from fastun.status.reply import PeerStatus

# Enough of a key to tell a hundred peers apart, and as many as the log has of one that it refuses;
# `peer show` and --json have the rest.
_KEY_CHARS = 8
# All columns with something in each. A narrower terminal wraps the lines itself, and loses nothing.
_WIDTH_MIN = 72


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One peer: where it comes from, the directory or the gateway's file, and what is known of it.

    `status` is None while no gateway runs, and of peers that may not connect.
    """

    peer: Peer
    source: str
    status: PeerStatus | None = None
    usage: Usage | None = None

    @property
    def quota_used_bytes(self) -> int:
        """What it has used of its quota this month, as far as is known."""
        terms = None if self.status is None else self.status.terms
        if terms is not None and terms.quota_bytes is not None:
            return terms.quota_used_bytes
        is_now = self.usage is not None and self.usage.month == month_of(time.time())
        return self.usage.n_bytes if self.usage is not None and is_now else 0


def print_json(listed: Sequence[Listed]) -> None:
    """Print all that is known but the pre-shared keys."""
    sys.stdout.write(json.dumps([_as_json(each) for each in listed], indent=2) + "\n")


def _as_json(each: Listed) -> dict[str, object]:
    peer, terms, status = each.peer, each.peer.terms, each.status
    quota = terms.quota
    return {
        "name": peer.name,
        "public_key": format_key(peer.public_key),
        "has_preshared_key": peer.preshared_key is not None,
        "allowed_ips": [str(prefix) for prefix in peer.allowed_ips],
        "endpoints": [str(endpoint) for endpoint in peer.endpoints],
        "keepalive_seconds": peer.keepalive_s,
        "source": each.source,
        "enabled": terms.enabled,
        "expires_unix_seconds": terms.expires,
        "limit_outbound_bytes_per_second": terms.limit.outbound,
        "limit_inbound_bytes_per_second": terms.limit.inbound,
        "limit_burst_bytes": terms.limit.burst_bytes or None,
        "quota_bytes": None if quota is None else quota.month_bytes,
        "quota_then_bytes_per_second": None if quota is None else quota.then_rate,
        "quota_used_bytes": each.quota_used_bytes,
        "to": [str(network) for network in terms.to],
        "note": terms.note,
        "up": status is not None and status.up,
        "last_handshake_unix_seconds": status and status.last_handshake_unix_seconds,
        "receive_bytes": status and status.receive_bytes,
        "transmit_bytes": status and status.transmit_bytes,
    }


def print_table(listed: Sequence[Listed]) -> None:
    """Print a line a peer, and one more for each further prefix; and the terms below."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("peer", overflow="fold")
    table.add_column("allowed IPs", overflow="fold")
    table.add_column("public key", no_wrap=True)
    for heading in ("handshake", "received", "sent"):
        table.add_column(heading, no_wrap=True, justify="right")
    for each in listed:
        prefixes = "\n".join(map(str, each.peer.allowed_ips)) or "none"
        key = format_key(each.peer.public_key)[:_KEY_CHARS] + "…"
        table.add_row(Text(each.peer.name, style="bold"), prefixes, key, *_live(each.status))
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH_MIN)
    with console.capture() as capture:
        console.print(table)
        for each in listed:
            if said := _terms(each):
                console.print(Text(f"{each.peer.name}: {', '.join(said)}"))
    # rich fills every line up to the table's width.
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _live(status: PeerStatus | None) -> tuple[str, str, str]:
    """Return the age of the last handshake, and the bytes of both directions."""
    from fastun.status.peer_report import duration  # noqa: PLC0415 (above this one only for its words)

    if status is None:
        return "", "", ""
    last = status.last_handshake_unix_seconds
    age = "never" if last is None else duration(time.time() - last)
    return age, format_size(status.receive_bytes), format_size(status.transmit_bytes)


def _terms(each: Listed) -> list[str]:
    """Return in words what is not as usual."""
    terms = each.peer.terms
    said = terms_text.said(terms)
    if terms.quota is not None:
        share = each.quota_used_bytes / terms.quota.month_bytes
        said["quota"] += f" ({share:.0%} used)"
    expired = ["expired"] * (terms.barred(time.time()) == "expired")
    in_file = ["in the gateway's file"] * (each.source == "file")
    return [*expired, *said.values(), *in_file]


def print_peer(each: Listed) -> None:
    """Print all that is known of one but its pre-shared key."""
    peer = each.peer
    handshake, received, sent = _live(each.status)
    lines = {
        "name": peer.name,
        "public key": format_key(peer.public_key),
        "pre-shared key": "yes" if peer.preshared_key else "no",
        "allowed IPs": ", ".join(map(str, peer.allowed_ips)) or "none",
        "endpoints": ", ".join(map(str, peer.endpoints)) or "none (peer connects to us)",
        "keepalive": f"{peer.keepalive_s} s" if peer.keepalive_s else "off",
        # Each on a line of its own: all on one would be longer than 80 columns.
        "terms": f"\n{'':<16}".join(_terms(each)) or "none",
    }
    if each.status is not None:
        lines["last handshake"] = handshake if handshake == "never" else f"{handshake} ago"
        lines["traffic"] = f"{received} received, {sent} sent"
    sys.stdout.writelines(f"{heading:<16}{value}\n" for heading, value in lines.items())
