"""The checks that SECURITY.md rests on, each turned round: `make security`.

A mutant is anchored by its function: what it replaces is in that function exactly once. So neither
a move to another file nor a new neighbour breaks it. A function whose name is used in several
files is written as `file.c:name`. An empty name means a constant outside of functions.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.mutation.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_C_FUNCTION = re.compile(
    r"^[A-Za-z_][\w \*]*?[ \*](?P<name>\w+)\([^;{]*?\)\s*\{\n.*?^\}\n", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class SecurityMutant:
    """What the code does that the mutant does not, and the tests that notice it."""

    claim: str
    function: str  # of Python with its classes: Class.method
    old: str
    new: str
    tests: tuple[str, ...]  # programs of tests/native, or paths below tests/ without .py

    @property
    def is_c(self) -> bool:
        """Whether it is of csrc."""
        return self.tests[0].startswith("test_")


@dataclass(frozen=True)
class Function:
    """Where a function is."""

    path: str
    name: str
    start: int
    end: int

    def has(self, name: str) -> bool:
        """Whether an anchor means this function."""
        file, _, function = name.rpartition(":")
        return function == self.name and self.path.endswith(f"/{file}" if file else "")


def table(tests: str, *changes: tuple[str, str, str, str]) -> tuple[SecurityMutant, ...]:
    """Return mutants that the same tests notice: function, claim, and what is replaced by what."""
    named = tuple(tests.split())
    return tuple(
        SecurityMutant(claim, function, old, new, named) for function, claim, old, new in changes
    )


def listed() -> tuple[SecurityMutant, ...]:
    """Return all, C first."""
    from tests.mutation import (  # noqa: PLC0415 (they use `table`)
        security_csrc,
        security_fastun,
        security_host,
    )

    return (*security_csrc.MUTANTS, *security_fastun.MUTANTS, *security_host.MUTANTS)


def mutants(checkout: Path) -> list[Mutant]:
    """Return the mutants of a checkout; ValueError names every one whose anchor does not fit."""
    sources = Sources(checkout)
    found: list[Mutant] = []
    misfits: list[str] = []
    for entry in listed():
        try:
            found.append(sources.place(entry))
        except ValueError as error:
            misfits.append(f"{entry.claim}: {error}")
    if misfits:
        raise ValueError("\n".join(misfits))
    return found


class Sources:
    """The functions of csrc and fastun."""

    def __init__(self, checkout: Path) -> None:
        """Read all files."""
        self._texts = {
            path.relative_to(checkout).as_posix(): path.read_text(encoding="utf-8")
            for folder, pattern in (("csrc", "*.[ch]"), ("fastun", "*.py"))
            for path in sorted((checkout / folder).rglob(pattern))
        }
        self._functions = [
            function for path, text in self._texts.items() for function in functions_of(path, text)
        ]

    def place(self, entry: SecurityMutant) -> Mutant:
        """Return the mutant; ValueError if its function or text is not there exactly once."""
        suffixes = (".c", ".h") if entry.is_c else (".py",)
        candidates = [
            function
            for function in self._functions
            if function.path.endswith(suffixes)
            and function.has(entry.function)
            and entry.old in self._texts[function.path][function.start : function.end]
        ]
        if len(candidates) != 1:
            raise ValueError(f"{entry.function}() has {entry.old!r} in {len(candidates)} files")
        function = candidates[0]
        text = self._texts[function.path]
        body = text[function.start : function.end]
        if body.count(entry.old) != 1:
            raise ValueError(f"{entry.function}() has {entry.old!r} {body.count(entry.old)} times")
        at = function.start + body.index(entry.old)
        changed = text[:at] + entry.new + text[at + len(entry.old) :]
        if not entry.is_c:
            _check_python(changed)
        return Mutant(
            path=function.path,
            line=text.count("\n", 0, at) + 1,
            change=f"{entry.claim} ({entry.function})",
            text=changed,
            native=entry.tests if entry.is_c else (),
            python=() if entry.is_c else tuple(f"tests/{name}.py" for name in entry.tests),
        )


def _check_python(text: str) -> None:
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"not Python: {error}") from None


def functions_of(path: str, text: str) -> Iterator[Function]:
    """Return the functions and classes of a file, and the file itself under an empty name."""
    yield Function(path, "", 0, len(text))
    if not path.endswith(".py"):
        for match in _C_FUNCTION.finditer(text):
            yield Function(path, match["name"], match.start(), match.end())
        return
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    yield from _python_functions(path, ast.parse(text), "", starts)


def _python_functions(
    path: str, parent: ast.AST, prefix: str, starts: list[int]
) -> Iterator[Function]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            end = starts[node.end_lineno or node.lineno]
            yield Function(path, f"{prefix}{node.name}", starts[first - 1], end)
            yield from _python_functions(path, node, f"{prefix}{node.name}.", starts)
