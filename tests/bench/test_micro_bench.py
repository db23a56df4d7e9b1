"""The measurements of the data path's parts: that they run, and what is made of their figures.

How fast anything is, is no test.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench.micro import compare
from bench.micro import ratios as stored
from bench.micro.ratios import Machine, Ratio, Ratios

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = Machine(
    cpu="A CPU", kernel="6.1", distribution="Debian", python="3.11", compiler="cc", libgcrypt="1.10"
)


@pytest.fixture(scope="module")
def run_once() -> subprocess.CompletedProcess[str]:
    """Run each subject once, and not for its time.

    In a process of its own: libgcrypt's memory may belong to one copy of aead_gcrypt.c only.
    """
    # fmt: off
    command = [sys.executable, "-m", "pytest", "-v", "--color=no", "--benchmark-disable",
               "bench/micro/test_data_path.py"]
    # fmt: on
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def subjects_of(run_once: subprocess.CompletedProcess[str], outcome: str) -> set[str]:
    return set(re.findall(rf"test_data_path\[(\S+)\] {outcome}", run_once.stdout))


def test_every_subject_does_what_it_should(run_once: subprocess.CompletedProcess[str]) -> None:
    assert run_once.returncode == 0, run_once.stdout
    assert len(subjects_of(run_once, "PASSED")) > 30


def test_every_subject_is_in_the_stored_baseline(
    run_once: subprocess.CompletedProcess[str],
) -> None:
    baseline = stored.read_baseline(stored.BASELINE)

    scrapes = {f"scrape-{n}{of}" for n in (1, 100, 1000) for of in ("", "-openmetrics")}
    assert baseline.ratios.keys() == subjects_of(run_once, "PASSED") | scrapes


def ratios(**of: float) -> Ratios:
    listed = {name: Ratio(calibration="cpu", ratio=ratio) for name, ratio in of.items()}
    return Ratios(date="2026-01-01T00:00:00", machine=MACHINE, ratios=listed)


def verdicts(baseline: Ratios, now: Ratios) -> dict[str, str]:
    return {one.subject: one.verdict(0.25) for one in compare.changes(baseline, now)}


def test_a_verdict_is_of_the_factor_between_two_ratios() -> None:
    before = ratios(a=100, b=100, c=100, d=100, gone=1)
    now = ratios(a=124, b=126, c=81, d=79, added=1)

    assert verdicts(before, now) == {
        "a": compare.SAME,
        "b": compare.SLOWER,
        "c": compare.SAME,
        "d": compare.FASTER,
        "gone": compare.MISSING,
        "added": compare.NEW,
    }


def test_ratios_to_different_loops_are_not_compared() -> None:
    now = Ratios(date="", machine=MACHINE, ratios={"a": Ratio(calibration="memory", ratio=1e6)})

    assert verdicts(ratios(a=1), now) == {"a": compare.RECALIBRATED}


def test_of_several_results_the_least_counts() -> None:
    merged = stored.least([ratios(a=3, b=1), ratios(a=2, b=5, c=4)])

    assert merged.ratios == ratios(a=2, b=1, c=4).ratios


def write_result(file: Path, ratio: float) -> str:
    """Write what pytest-benchmark does, as far as it is read."""
    info = {
        "cpu": {"brand_raw": MACHINE.cpu},
        "release": MACHINE.kernel,
        "distribution": MACHINE.distribution,
        "python_version": MACHINE.python,
        "compiler": MACHINE.compiler,
        "libgcrypt": MACHINE.libgcrypt,
    }
    figures = {"subject": "ring", "calibration": "cpu", "ratio": ratio, "n_operations": 1}
    result = {
        "datetime": "2026-01-01T00:00:00.5+00:00",
        "machine_info": info,
        "benchmarks": [{"name": "test", "extra_info": figures}],
    }
    file.write_text(json.dumps(result), encoding="utf-8")
    return str(file)


def test_what_became_slower_is_named_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = ["--baseline", str(tmp_path / "baseline.json")]
    before, slow = (write_result(tmp_path / f"{ratio}.json", ratio) for ratio in (10, 14))

    assert compare.main([*baseline, "--renew", before]) == 0
    assert compare.main([*baseline, before]) == 0
    assert "slower by" not in capsys.readouterr().out
    assert compare.main([*baseline, slow]) == 1
    assert "slower by more than 30%: ring\n" in capsys.readouterr().out
    assert compare.main([*baseline, slow, "--tolerance", "0.5"]) == 0
    assert compare.main([*baseline, slow, before]) == 0


@pytest.mark.parametrize("content", [None, "", "{}", "[1]"])
def test_a_file_that_is_not_a_result_ends_with_2_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    file = tmp_path / "result.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")

    assert compare.main([str(file)]) == 2
    assert f"compare: {file}: " in capsys.readouterr().err.replace("\n", " ")


def test_the_newest_results_are_those_of_the_last_run(tmp_path: Path) -> None:
    names = [f"micro-2026-01-0{day}T000000-{run}.json" for day in (1, 2) for run in (1, 2, 3)]
    for name in names:
        (tmp_path / name).touch()

    assert [file.name for file in stored.newest_results(tmp_path)] == names[3:]
