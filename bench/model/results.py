"""A result file of the model: costs, what they predict, and what was measured beside. JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bench.model.compared import Compared
from bench.tunnel.results import Machine, read_as
from fastun.bench.model.figures import WireCosts

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 2


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``costs`` are over all rounds, and ``compared`` has each; the date is UTC."""

    format: int = FORMAT
    date: str
    duration_s: float
    machine: Machine
    n_rounds: int
    seconds: float
    costs: list[WireCosts]
    compared: list[Compared]


def read(file: Path) -> Results:
    """Read a result file; ConfigError if it is none."""
    return read_as(Results, file, known_format=FORMAT, origin="bench.model")
