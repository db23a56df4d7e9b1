"""What a metric family is; families.py puts all together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastun.metrics.readings import Read


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    read: Read
