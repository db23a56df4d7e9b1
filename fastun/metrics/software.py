"""A peer's software name as a label: a few values for each peer, however often it changes.

Each value of a label is a series that Prometheus keeps for weeks, and a peer can send another name
with every session. Status and log show the name as it was sent, printable and truncated (hello.py).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Container

OTHER = "other"

# Upgrades while one gateway runs.
VALUES_MAX = 4

# link/hello.py names the first two, and what fastun calls itself.
_KNOWN = re.compile(r"WireGuard|simpletun|fastun [0-9][0-9A-Za-z.+-]{0,23}")


class SoftwareLabels:
    """The values that each peer has had. Scrapes follow one another."""

    def __init__(self) -> None:
        """Begin without any."""
        self._seen: dict[str, tuple[str, ...]] = {}  # by peer

    def of(self, peer: str, software: str) -> str:
        """Return the label's value: one of VALUES_MAX of the peer, or OTHER."""
        seen = self._seen.get(peer, ())
        if software in seen:
            return software
        if len(seen) >= VALUES_MAX or not _KNOWN.fullmatch(software):
            return OTHER
        self._seen[peer] = _shared((*seen, software))
        return software

    def keep(self, peers: Container[str]) -> None:
        """Forget all others."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in peers}


@functools.lru_cache(maxsize=64)
def _shared(seen: tuple[str, ...]) -> tuple[str, ...]:
    """Return the same object for the same values, which are those of most peers."""
    return seen
