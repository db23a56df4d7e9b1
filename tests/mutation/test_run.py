"""Mutants are judged by tests that pass without them: in a small checkout of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.mutation import run
from tests.mutation.mutant import Mutant
from tests.mutation.testing import KILLED, SURVIVED

if TYPE_CHECKING:
    from pathlib import Path

TEST = """from fastun.may import may

def test_may():
    assert {call}
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "fastun").mkdir()
    (tmp_path / "fastun" / "__init__.py").write_text("")
    (tmp_path / "fastun" / "may.py").write_text("def may(n):\n    return n < 3\n")
    monkeypatch.setattr(run, "CHECKOUT", tmp_path)
    return tmp_path


def verdicts_of(checkout: Path, *texts: str, test: str) -> list[str]:
    (checkout / "test_may.py").write_text(TEST.format(call=test))
    mutants = [Mutant("fastun/may.py", 2, "", text, python=("test_may.py",)) for text in texts]
    return run.judge_all(mutants, covered=True, report=lambda *_: None)


def test_a_mutant_is_killed_by_a_test_that_fails_and_survives_the_others(checkout: Path) -> None:
    changed = [f"def may(n):\n    return {result}\n" for result in ("n < 4", "n > 3", "True")]
    assert verdicts_of(checkout, *changed, test="may(2)") == [SURVIVED, KILLED, SURVIVED]


def test_a_test_that_fails_without_a_change_judges_nothing(checkout: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)fails without a change.*test_may.py: .*may\(3\)"):
        verdicts_of(checkout, "def may(n):\n    return n > 3\n", test="may(3)")


MAKEFILE = """build/asan/test_%:
\tmkdir -p build/asan
\tprintf '#!/bin/sh\\nexit $*\\n' >$@
\tchmod +x $@
"""


@pytest.mark.parametrize(
    ("status", "said"),
    [("3", "exit code 3"), ("124", "no end within 60 s")],
    ids=["silent", "timeout"],
)
def test_one_that_fails_without_a_word_is_named(checkout: Path, status: str, said: str) -> None:
    native = checkout / "tests" / "native"
    native.mkdir(parents=True)
    (native / "Makefile").write_text(MAKEFILE)
    mutant = Mutant("fastun/may.py", 2, "", "", native=(f"test_{status}",))
    with pytest.raises(RuntimeError, match=f"(?s)without a change.*test_{status}: {said}"):
        run.judge_all([mutant], covered=True, report=lambda *_: None)
