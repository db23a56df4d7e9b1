"""A result file: what was measured, with which settings, on which machine. JSON, read strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from bench.tunnel.figures import Figure
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

Stored = TypeVar("Stored", bound=msgspec.Struct)

FORMAT = 1
OK, FAILED, ABSENT = "ok", "failed", "absent"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the figures depend on besides the programs."""

    cpu: str
    n_cpus: int
    memory_mib: int
    kernel: str
    system: str
    python: str
    congestion_control: str
    #: First line of what each program says of its version, by program.
    versions: dict[str, str]
    #: Of this checkout, with "-dirty" if it was changed; empty when there is no git.
    commit: str
    #: Of the last minute, when the run began.
    load_average: float


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the figures were taken."""

    is_quick: bool
    n_rounds: int
    #: Of one transfer.
    seconds: int
    n_trials: int
    socket_buffer_bytes: int


class CaseResult(msgspec.Struct, kw_only=True):
    """One case. `values` has one value a round for each figure that was taken, in its unit."""

    name: str
    title: str
    kind: str
    status: str = OK
    #: Why the status is not "ok", each with the measure that it happened in.
    reasons: list[str] = []
    values: dict[str, list[float]] = {}

    def fail(self, reason: str) -> None:
        """Note a failure; what was measured stays."""
        self.status = FAILED
        self.reasons.append(reason)


class Results(msgspec.Struct, kw_only=True):
    """One run. Dates are ISO 8601 in UTC."""

    format: int = FORMAT
    date: str
    duration_s: float
    machine: Machine
    settings: Settings
    #: CPU seconds that the machine spent a second with all cases idle, by round.
    idle_shares: list[float]
    figures: tuple[Figure, ...]
    cases: list[CaseResult]

    @property
    def installed_worked(self) -> bool:
        """Whether no case failed; one whose program is absent did not."""
        return all(case.status != FAILED for case in self.cases)


class _Head(msgspec.Struct, frozen=True):
    """What every result file begins with, whatever else its format has."""

    format: int


def write(results: msgspec.Struct, file: Path) -> None:
    """Write a result file, of this benchmark or another. OSError if that fails."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def read(file: Path) -> Results:
    """Read a result file; ConfigError if it is none."""
    return read_as(Results, file, known_format=FORMAT, origin="this benchmark")


def read_as(kind: type[Stored], file: Path, *, known_format: int, origin: str) -> Stored:
    """Read a result file of a benchmark, whose name is `origin`; ConfigError if it is none."""
    try:
        content = file.read_bytes()
        found = msgspec.json.decode(content, type=_Head).format
        if found != known_format:
            raise ConfigError(f"{file}: format {found}, and this program reads {known_format}")
        return msgspec.json.decode(content, type=kind)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file}: not a result of {origin}: {error}") from error
