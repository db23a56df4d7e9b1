"""Going every way that things could take: a choice is made wherever there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Way:
    """One way through all choices: a script first, and behind its end always the first choice."""

    def __init__(self, script: list[int]) -> None:
        self._script = script
        self._taken: list[tuple[int, int]] = []  # the choice, and of how many

    def choose(self, n: int) -> int:
        """Return one of the numbers below `n`."""
        place = len(self._taken)
        choice = self._script[place] if place < len(self._script) else 0
        self._taken.append((choice, n))
        return choice

    def next_script(self) -> list[int] | None:
        """Return how to go where nobody has been yet; None: all ways have been gone."""
        while self._taken:
            choice, n = self._taken.pop()
            if choice + 1 < n:
                return [*(taken for taken, _ in self._taken), choice + 1]
        return None


def every_way() -> Iterator[Way]:
    """Return all ways, one after another; each is to be gone to its end before the next."""
    script: list[int] | None = []
    while script is not None:
        way = Way(script)
        yield way
        script = way.next_script()
