"""The list of security mutants fits the sources, so that it can be judged whenever asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.mutation.security import functions_of, listed, mutants

CHECKOUT = Path(__file__).resolve().parents[2]


def test_what_a_mutant_replaces_is_in_its_function_exactly_once() -> None:
    assert len(mutants(CHECKOUT)) == len(listed())


def test_the_tests_that_should_notice_exist() -> None:
    tests = CHECKOUT / "tests"
    paths = {
        tests / "native" / f"{name}.c" if entry.is_c else tests / f"{name}.py"
        for entry in listed()
        for name in entry.tests
    }
    assert not [path for path in sorted(paths) if not path.exists()]


def test_no_mutant_is_listed_twice() -> None:
    places = Counter((entry.function, entry.old, entry.new) for entry in listed())
    assert not [place for place, n in places.items() if n > 1]


@pytest.mark.parametrize(
    ("path", "text", "names"),
    [
        ("a.py", "class A:\n    def b(self):\n        pass\n", ["", "A", "A.b"]),
        ("a.c", "static int f(int a) {\n    return a;\n}\n\nint g(void) {\n}\n", ["", "f", "g"]),
    ],
)
def test_functions_are_found_in_both_languages(path: str, text: str, names: list[str]) -> None:
    assert [function.name for function in functions_of(path, text)] == names
