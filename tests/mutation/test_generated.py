"""What is mutated, and with which tests: on small files of their own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.mutation.covering import PythonCoverage
from tests.mutation.generated import changed_lines, mutants_of, sources_below

if TYPE_CHECKING:
    from pathlib import Path

C = """/* A limit: a < b. */
static bool may(uint8_t n, uint8_t most) {
    return n < most;
}
"""
PYTHON = '''def may(n: int, most: int) -> bool:
    """Return whether n < most."""
    return n < most
'''


def write(checkout: Path, path: str, text: str) -> None:
    (checkout / path).parent.mkdir(parents=True, exist_ok=True)
    (checkout / path).write_text(text, encoding="utf-8")


def test_a_comparison_is_mutated_in_both_languages(tmp_path: Path) -> None:
    write(tmp_path, "csrc/may.c", C)
    write(tmp_path, "fastun/may.py", PYTHON)
    for path in ("csrc/may.c", "fastun/may.py"):
        texts = [mutant.text for mutant in mutants_of(tmp_path, path, None)]
        assert any("return n <= most" in text for text in texts), path
        assert any("return n > most" in text for text in texts), path


def test_comments_docstrings_and_numbers_within_names_are_not_mutated(tmp_path: Path) -> None:
    write(tmp_path, "csrc/may.c", C)
    write(tmp_path, "fastun/may.py", PYTHON)
    in_c = mutants_of(tmp_path, "csrc/may.c", None)
    assert all("/* A limit: a < b. */" in mutant.text for mutant in in_c)
    assert not any("uint0" in mutant.text or "uint(" in mutant.text for mutant in in_c)
    in_python = mutants_of(tmp_path, "fastun/may.py", None)
    assert all('"""Return whether n < most."""' in mutant.text for mutant in in_python)


def test_only_the_lines_asked_for_are_mutated_and_each_has_a_bound(tmp_path: Path) -> None:
    write(tmp_path, "csrc/may.c", C)
    mutants = mutants_of(tmp_path, "csrc/may.c", {3})
    assert {mutant.line for mutant in mutants} == {3}
    assert 2 < len(mutants) <= 8


def test_the_lines_changed_since_a_commit_are_those_of_the_sources(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.net")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    write(tmp_path, "csrc/may.c", C)
    write(tmp_path, "README.md", "a\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "a")
    write(tmp_path, "csrc/may.c", C.replace("n < most", "n <= most"))
    write(tmp_path, "README.md", "b\n")
    assert changed_lines(tmp_path, "HEAD") == {"csrc/may.c": {3}}


def test_a_folder_means_the_sources_below_it(tmp_path: Path) -> None:
    write(tmp_path, "csrc/packet/may.c", C)
    write(tmp_path, "csrc/packet/notes.txt", "")
    assert sources_below(tmp_path, "csrc") == ["csrc/packet/may.c"]


def test_a_module_is_covered_by_what_imports_it_those_of_its_name_first(tmp_path: Path) -> None:
    write(tmp_path, "tests/unit/a/test_away.py", "from tests.support.player import play\n")
    write(tmp_path, "tests/unit/a/test_may.py", "from fastun.a.may import may\n")
    write(tmp_path, "tests/unit/a/test_other.py", "from fastun.a.other import other\n")
    write(tmp_path, "tests/support/player.py", "from fastun.a import may\n")
    coverage = PythonCoverage(tmp_path)
    assert coverage.of("fastun/a/may.py") == (
        "tests/unit/a/test_may.py",
        "tests/unit/a/test_away.py",
    )
    assert len(coverage.of("fastun/a/unknown.py")) == 3
