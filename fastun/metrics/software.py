"""What a peer calls itself, as a label: a few values a peer, however often it changes its mind.

Each value of a label is a series that Prometheus keeps for weeks, and a peer can say another one
with every session. In status and log it stands as it was said, printable and cut (hello.py).
"""

from __future__ import annotations

import re

from fastun.link.hello import PLAIN_WIREGUARD

OTHER = "other"

# Upgrades while one gateway runs.
VALUES_MAX = 4

_KNOWN = re.compile(rf"{PLAIN_WIREGUARD}|simpletun|fastun [0-9][0-9A-Za-z.+-]{{0,23}}")


class SoftwareLabel:
    """The values that one peer has had. Scrapes follow one another."""

    def __init__(self) -> None:
        """Begin without any."""
        self._seen: set[str] = set()

    def of(self, software: str) -> str:
        """Return what stands in the label: one of VALUES_MAX, or OTHER."""
        if software in self._seen:
            return software
        if len(self._seen) >= VALUES_MAX or not _KNOWN.fullmatch(software):
            return OTHER
        self._seen.add(software)
        return software
