"""Ratios to calibration loops as they are stored: a run's result file, and the baseline.

A result is what pytest-benchmark writes; the baseline is JSON of our own. Both are read strictly as
to what is needed of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fastun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

BASELINE = Path(__file__).with_name("baseline.json")
RESULTS = Path(__file__).resolve().parents[1] / "results"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What ratios still depend on: a processor's instructions, a compiler, a library."""

    cpu: str
    kernel: str
    distribution: str
    python: str
    compiler: str
    libgcrypt: str


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A subject's time by that of its calibration loop, each of one operation."""

    calibration: str
    ratio: float


class Ratios(msgspec.Struct, frozen=True, kw_only=True):
    """The ratios of one run, by subject. `date` is ISO 8601 in UTC."""

    date: str
    machine: Machine
    ratios: dict[str, Ratio]


class _Cpu(msgspec.Struct):
    brand_raw: str = ""


class _MachineInfo(msgspec.Struct):
    cpu: _Cpu
    release: str
    distribution: str
    python_version: str
    compiler: str
    libgcrypt: str


class _Figures(msgspec.Struct):
    subject: str
    calibration: str
    ratio: float


class _Benchmark(msgspec.Struct):
    extra_info: _Figures


class _Result(msgspec.Struct):
    """What of pytest-benchmark's file is read here."""

    datetime: str
    machine_info: _MachineInfo
    benchmarks: list[_Benchmark]


File = TypeVar("File", Ratios, _Result)


def _read(file: Path, kind: type[File]) -> File:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file}: not a file of bench/micro: {error}") from error


def read_baseline(file: Path) -> Ratios:
    """Read what `write_baseline` wrote; ConfigError if it is nothing of the kind."""
    return _read(file, Ratios)


def write_baseline(ratios: Ratios, file: Path) -> None:
    """Write a baseline. OSError if that fails."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(ratios), indent=1) + b"\n")


def read_result(file: Path) -> Ratios:
    """Read what pytest --benchmark-json wrote; ConfigError if it is nothing of the kind."""
    result = _read(file, _Result)
    info = result.machine_info
    figures = [benchmark.extra_info for benchmark in result.benchmarks]
    return Ratios(
        date=result.datetime.partition(".")[0],
        machine=Machine(
            cpu=info.cpu.brand_raw,
            kernel=info.release,
            distribution=info.distribution,
            python=info.python_version,
            compiler=info.compiler,
            libgcrypt=info.libgcrypt,
        ),
        ratios={
            one.subject: Ratio(calibration=one.calibration, ratio=one.ratio) for one in figures
        },
    )


def newest_results(directory: Path) -> list[Path]:
    """Return the micro-DATE-RUN.json of the last `make micro`; ConfigError if there are none."""
    files = sorted(directory.glob("micro-*-*.json"))
    if not files:
        raise ConfigError(f"{directory}: no micro-DATE-RUN.json; run: make micro")
    date = files[-1].name.rpartition("-")[0]
    return [file for file in files if file.name.rpartition("-")[0] == date]


def least(results: Sequence[Ratios]) -> Ratios:
    """Return the least ratio of each subject; date and machine are the last result's."""
    ratios: dict[str, Ratio] = {}
    for result in results:
        for subject, one in result.ratios.items():
            known = ratios.get(subject)
            if known is None or one.ratio < known.ratio:
                ratios[subject] = one
    return msgspec.structs.replace(results[-1], ratios=ratios)
