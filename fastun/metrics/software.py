"""A peer's software name as a label: a few values for each peer, however often it changes.

Each value of a label is a series that Prometheus keeps for weeks, and a peer can send another name
with every session. Status and log show the name as it was sent, printable and truncated (hello.py).
"""

from __future__ import annotations

import re

import msgspec

OTHER = "other"

# Upgrades while one gateway runs.
VALUES_MAX = 4

# link/hello.py names the first two, and what fastun calls itself.
_KNOWN = re.compile(r"WireGuard|simpletun|fastun [0-9][0-9A-Za-z.+-]{0,23}")


class SoftwareLabel(msgspec.Struct):
    """The values that one peer has had. Scrapes follow one another."""

    _seen: tuple[str, ...] = ()

    def of(self, software: str) -> str:
        """Return the label's value: one of VALUES_MAX, or OTHER."""
        if software in self._seen:
            return software
        if len(self._seen) >= VALUES_MAX or not _KNOWN.fullmatch(software):
            return OTHER
        self._seen += (software,)
        return software
