"""How our own packets get out of this host: past the tunnel, to what names resolve to."""

from __future__ import annotations

from dataclasses import dataclass

from fastun.link.inside import Inside
from fastun.link.names import Names


@dataclass(frozen=True, slots=True)
class Outside:
    """Names, what is inside the tunnel instead, and the mark on our packets (0: none)."""

    names: Names
    inside: Inside
    fwmark: int = 0
