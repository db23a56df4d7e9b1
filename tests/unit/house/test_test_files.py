"""A file of tests is about one subject: more than 400 lines are two subjects."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
LINES_MAX = 400


def long_files() -> set[str]:
    return {
        path.relative_to(CHECKOUT).as_posix()
        for pattern in ("*.py", "*.c", "*.h")
        for path in (CHECKOUT / "tests").rglob(pattern)
        if "build" not in path.parts and len(path.read_bytes().splitlines()) > LINES_MAX
    }


def test_no_file_of_tests_has_more_than_400_lines() -> None:
    assert sorted(long_files()) == []


def test_make_runs_every_folder_of_tests_in_one_of_its_two_parts() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^\w+_FOLDERS = (.*)$", makefile, re.MULTILINE)
    folders = {
        "tests/" + path.relative_to(CHECKOUT / "tests").parts[0]
        for path in (CHECKOUT / "tests").rglob("test_*.py")
    }
    assert sorted(" ".join(named).split()) == sorted(folders)


def test_what_is_installed_imports_nothing_from_tests_or_benchmarks() -> None:
    upward = re.compile(r"^\s*(from|import) (tests|bench|grafana)\b", re.MULTILINE)
    files = (CHECKOUT / "fastun").rglob("*.py")
    assert not [file for file in files if upward.search(file.read_text(encoding="utf-8"))]
