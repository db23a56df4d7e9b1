"""A fuzz target: a function that gives any bytes to one parser, and what is true of all of them.

Its docstring says so. It raises nothing for any input: what the parser promises to raise is
suppressed in it, anything else is found. How it is run: run.py; as a regression test on the kept
inputs: tests/unit/house/test_fuzz_targets.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType

Run = Callable[[bytes], None]

TARGETS: dict[str, Run] = {}


def target(run: Run) -> Run:
    """Add a target, by the name of its function."""
    assert run.__name__ not in TARGETS
    TARGETS[run.__name__] = run
    return run


@contextlib.contextmanager
def replaced(value: object, *places: tuple[ModuleType, str]) -> Iterator[None]:
    """Give names of modules, such as the path of a file, this value for the moment."""
    before = [(module, name, getattr(module, name)) for module, name in places]
    for module, name in places:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, old in before:
            setattr(module, name, old)


class Source:
    """An input, read from its beginning; behind its end are zeros."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def byte(self) -> int:
        return self.bytes(1)[0]

    def bytes(self, n: int) -> bytes:
        taken = self._content[self._at : self._at + n]
        self._at += n
        return taken.ljust(n, b"\0")

    def text(self) -> str:
        """As many characters as a byte says."""
        return self.bytes(self.byte()).decode(errors="replace")

    def rest(self) -> bytes:
        rest, self._at = self._content[self._at :], len(self._content)
        return rest

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._content)


def value(source: Source, words: tuple[str, ...], depth: int = 4) -> object:
    """A value of the kinds that msgpack and JSON have; `words` are likely texts."""
    kind = source.byte() % 16
    if kind >= 13:
        return words[source.byte() % len(words)]
    if kind >= 11 and depth > 0:
        return fields(source, words, depth - 1)
    if kind >= 9 and depth > 0:
        return [value(source, words, depth - 1) for _ in range(source.byte() % 8)]
    plain: tuple[Callable[[], object], ...] = (
        lambda: None,
        lambda: False,
        lambda: True,
        source.byte,
        lambda: int.from_bytes(source.bytes(8), "big", signed=True),
        lambda: int.from_bytes(source.bytes(4), "big"),
        lambda: source.byte() / 7,
        source.text,
        lambda: source.bytes(source.byte()),
    )
    return plain[kind % len(plain)]()


def fields(source: Source, words: tuple[str, ...], depth: int = 4) -> dict[str, object]:
    """A map whose keys are some of `words`."""
    n = source.byte() % 12
    return {words[source.byte() % len(words)]: value(source, words, depth) for _ in range(n)}
