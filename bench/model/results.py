"""A result file of the model: costs, what they predict, and what was measured beside. JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bench.model.compared import Compared
from bench.tunnel.results import Machine
from fastun.bench.model.figures import WireCosts
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1


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


def write(results: Results, file: Path) -> None:
    """Write a result file. OSError if that fails."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def read(file: Path) -> Results:
    """Read a result file; ConfigError if it is none."""
    try:
        results = msgspec.json.decode(file.read_bytes(), type=Results)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file}: not a result of bench.model: {error}") from error
    if results.format != FORMAT:
        raise ConfigError(f"{file}: format {results.format}, and this program reads {FORMAT}")
    return results
