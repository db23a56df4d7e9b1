"""What a mutation run works on: a check turned round, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.mutation.testing import run_pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One change of one file. `old` stands exactly once in the file, from the checkout's root."""

    claim: str  # what the code does that the mutant does not
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()  # those that should notice; they run before the suite's


@dataclass(frozen=True)
class Suite:
    """Mutants that the same tests have to kill, quickly; `run` is one of tests.mutation.testing."""

    name: str
    tests: tuple[str, ...]
    mutants: tuple[Mutant, ...]
    run: Callable[[Sequence[str], Path], tuple[str, str]] = run_pytest


def in_c(source: str, tests: str, *changes: tuple[str, str, str]) -> tuple[Mutant, ...]:
    """Return the mutants of a file of csrc: claims, and what is replaced by what."""
    named = tuple(tests.split())
    return tuple(Mutant(claim, f"csrc/{source}.c", old, new, named) for claim, old, new in changes)


def in_python(module: str, tests: str, *changes: tuple[str, str, str]) -> tuple[Mutant, ...]:
    """Return the mutants of a module of fastun: claims, and what is replaced by what."""
    named = tuple(f"tests/{name}" for name in tests.split())
    return tuple(
        Mutant(claim, f"fastun/{module}.py", old, new, named) for claim, old, new in changes
    )
