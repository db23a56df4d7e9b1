"""What a mutation run works on: a check turned round, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One change of one file. `old` stands exactly once in the file, from the checkout's root."""

    claim: str  # what the code does that the mutant does not
    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Suite:
    """Mutants that the same tests have to kill, quickly; `build` runs before the tests."""

    name: str
    tests: tuple[str, ...]
    mutants: tuple[Mutant, ...]
    build: tuple[str, ...] = ()
