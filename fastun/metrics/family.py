"""What a metric family is; families.py puts all together."""

from __future__ import annotations

from typing import Literal

import msgspec

from fastun.metrics.readings import Read


class Family(msgspec.Struct, frozen=True):
    """One metric family."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    read: Read
