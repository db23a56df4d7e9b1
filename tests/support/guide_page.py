"""A page for operators, as scenes of steps that can be run. What its lines may be:

- ``<!-- lab: office -->``: a scene begins, with new hosts (guide_lab.py).
- A block `toml gateway.toml on server`: a file of that text in the host's directory.
- In a block `console`, ``server# fastun serve``: a command of root on that host; ``$``: of anyone.
  The lines below are what it must print; ``...`` is any text.
- ``<!-- carry: FILE from HOST to HOST -->``: a file that a person carries.
- ``<!-- not run: REASON -->``: the next console block is not run, and why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_COMMENT = re.compile(r"^<!-- (lab|carry|not run): (.*) -->$")
_PROMPT = re.compile(r"^([a-z][a-z0-9]*)([#$]) (.+)$")
_FENCE: Final = "```"


class PageError(ValueError):
    """Something in a page that is none of these; with its line."""


@dataclass(slots=True)
class Command:
    """What is typed at a host, and what must come out."""

    host: str
    line: str
    where: str
    expected: list[str] = field(default_factory=list)

    def pattern(self) -> re.Pattern[str]:
        """Return what its output must contain; `...` stands for any text, alone for any lines."""
        whole = r"[\s\S]*?".join(re.escape(line) for line in self.expected)
        return re.compile(whole.replace(re.escape("..."), r"[\s\S]*?"))


@dataclass(slots=True)
class File:
    """A file that is written on a host."""

    host: str
    name: str
    text: str


@dataclass(slots=True)
class Carry:
    """A file that goes from one host to another."""

    name: str
    origin: str
    to: str


@dataclass(slots=True)
class Scene:
    """Steps in order, on the hosts of ``lab``."""

    name: str
    lab: str
    steps: list[Command | File | Carry] = field(default_factory=list)


@dataclass(slots=True)
class Page:
    """The scenes of a page; `left_out` are commands that are not run, with the reason."""

    name: str
    scenes: list[Scene] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def add(self, step: Command | File | Carry, where: str) -> None:
        """Add a step to the scene that has begun. PageError."""
        if not self.scenes:
            raise PageError(f"{where}: no lab above it")
        self.scenes[-1].steps.append(step)


def read(path: Path) -> Page:
    """Return the page at ``path``. Raises PageError."""
    page, reason = Page(path.stem), ""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        where = f"{path.name}:{number}"
        if comment := _COMMENT.match(line):
            reason = _note(page, comment[1], comment[2], where) or reason
        elif line.startswith(_FENCE):
            kind, _, more = line.removeprefix(_FENCE).partition(" ")
            block = []
            for _, inside in lines:
                if inside == _FENCE:
                    break
                block.append(inside)
            if kind == "console":
                _take(page, block, reason, where)
                reason = ""
            elif more:
                name, _, host = more.partition(" on ")
                page.add(File(host, name, "\n".join([*block, ""])), where)
    if reason:
        raise PageError(f"{path.name}: 'not run' without a block behind it")
    return page


def _note(page: Page, kind: str, text: str, where: str) -> str:
    """Take in a comment; returns the reason of one that leaves the next block out."""
    if kind == "not run":
        return text
    if kind == "lab":
        page.scenes.append(Scene(f"{page.name}-{len(page.scenes) + 1}", text))
    elif found := re.fullmatch(r"(\S+) from (\S+) to (\S+)", text):
        page.add(Carry(*found.groups()), where)
    else:
        raise PageError(f"{where}: {text!r} is not FILE from HOST to HOST")
    return ""


def _take(page: Page, block: list[str], reason: str, where: str) -> None:
    command: Command | None = None
    for line in block:
        if prompt := _PROMPT.match(line):
            command = Command(prompt[1], prompt[3], where)
            if reason:
                page.left_out.append((command.line, reason))
            else:
                page.add(command, where)
        elif command is None:
            raise PageError(f"{where}: output before a command: {line!r}")
        else:
            command.expected.append(line)
