"""One change of one file, and the tests that must notice it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`text` is the whole file with the change in it."""

    path: str  # from the checkout's root
    line: int
    change: str  # one line for the report
    text: str
    native: tuple[str, ...] = ()  # programs of tests/native
    python: tuple[str, ...] = ()  # paths that pytest takes

    @property
    def place(self) -> str:
        """Where it is, as compilers say it."""
        return f"{self.path}:{self.line}"
