"""`fastun peer list` and `fastun peer show`: peers as a table of 80 columns, as lines, as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastun.session.keys import format_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.peers.peer import Peer

# Where a peer comes from: what `peer add` wrote, or the configuration file of the gateway.
Listed = tuple["Peer", str]

# Enough of a key to tell a hundred peers apart; `peer show` and --json have the rest.
_KEY_CHARS = 10


def print_json(listed: Iterable[Listed]) -> None:
    """Print all that is known but the pre-shared keys."""
    peers = [
        {
            "name": peer.name,
            "public_key": format_key(peer.public_key),
            "has_preshared_key": peer.preshared_key is not None,
            "allowed_ips": [str(prefix) for prefix in peer.allowed_ips],
            "endpoints": [str(endpoint) for endpoint in peer.endpoints],
            "keepalive_seconds": peer.keepalive_s,
            "source": source,
        }
        for peer, source in listed
    ]
    sys.stdout.write(json.dumps(peers, indent=2) + "\n")


def print_table(listed: Iterable[Listed]) -> None:
    """Print a line a peer, and one more for each further prefix."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("peer", overflow="fold")
    table.add_column("allowed IPs", overflow="fold")
    table.add_column("public key", no_wrap=True)
    table.add_column("source", no_wrap=True)
    for peer, source in listed:
        prefixes = "\n".join(map(str, peer.allowed_ips)) or "none"
        key = format_key(peer.public_key)[:_KEY_CHARS] + "…"
        table.add_row(Text(peer.name, style="bold"), prefixes, key, source)
    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(table)
    # rich fills every line up to the table's width.
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def print_peer(peer: Peer) -> None:
    """Print all that is known of one but its pre-shared key."""
    lines = {
        "name": peer.name,
        "public key": format_key(peer.public_key),
        "pre-shared key": "yes" if peer.preshared_key else "no",
        "allowed IPs": ", ".join(map(str, peer.allowed_ips)) or "none",
        "endpoints": ", ".join(map(str, peer.endpoints)) or "none (peer connects to us)",
        "keepalive": f"{peer.keepalive_s} s" if peer.keepalive_s else "off",
    }
    sys.stdout.writelines(f"{heading:<16}{value}\n" for heading, value in lines.items())
