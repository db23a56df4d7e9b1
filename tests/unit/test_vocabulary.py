"""fastun.vocabulary: each set of words is written once, and is that of the C library."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import get_args

import pytest

from fastun import native, vocabulary

ROOT = Path(vocabulary.__file__).parent
SETS = {name: get_args(words) for name, words in vars(vocabulary).items() if get_args(words)}


@functools.cache
def literals(path: Path) -> list[tuple[object, ...]]:
    """The words of each Literal[...] in a file."""
    return [
        tuple(ast.literal_eval(each) for each in node.slice.elts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Literal"
        and isinstance(node.slice, ast.Tuple)
    ]


@pytest.mark.parametrize("name", SETS)
def test_the_words_are_written_once(name: str) -> None:
    found = [path for path in sorted(ROOT.rglob("*.py")) if SETS[name] in literals(path)]
    assert found == [ROOT / "vocabulary.py"]


def test_the_words_are_those_of_the_c_library() -> None:
    assert SETS["WorkerRole"] == native.ROLES
    assert {word.upper() for word in SETS["Mode"]} == set(native.Mode.__members__)
    assert {word.upper() for word in SETS["Wire"]} == set(native.Wire.__members__)
