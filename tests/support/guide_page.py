"""A page for operators, as scenes of steps that can be run. What its lines may be:

- ``<!-- lab: office -->``: a scene begins, with new hosts (guide_lab.py).
- A block `toml gateway.toml on server`: a file of that text in the host's directory.
- In a block `console`, ``server# fastun serve``: a command of root on that host; ``$``: of anyone.
  The lines below are what it must print; ``...`` is any text.
- ``<!-- carry: FILE from HOST to HOST -->``: a file that a person carries.
- ``<!-- before: server# fastun serve -->``: a command that is run and not shown.
- ``<!-- stop: HOST -->``: what runs in the foreground of that host ends, by Ctrl-C.
- ``<!-- one of these -->``: of the next block each gateway is started alone.
- ``<!-- not run: REASON -->``: the next console block is not run, and why. A reason may name the
  test that does run it, by its path.

A command is in a block `console` and nowhere else: the other kinds of blocks are files, and `text`.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_COMMENT = re.compile(r"^<!-- (lab|carry|before|stop|not run): (.*) -->$")
_ONE_OF_THESE: Final = "<!-- one of these -->"
_PROMPT = re.compile(r"^([a-z][a-z0-9]*)?([#$]) (.+)$")
_FENCE: Final = "```"
_FILES: Final = frozenset({"toml", "ini", "yaml", "json", "dockerfile", "text"})


class PageError(ValueError):
    """Something in a page that is none of these; with its line."""


@dataclass(slots=True)
class Command:
    """What is typed at a host, and what must come out."""

    host: str
    line: str
    where: str
    expected: list[str] = field(default_factory=list)

    def is_in(self, output: str) -> bool:
        """Whether all that is expected is in an output, in order; `...` is any text."""
        position = 0
        for part in re.split(r"\.\.\.|\n", "\n".join(self.expected)):
            found = output.find(part, position)
            if found < 0:
                return False
            position = found + len(part)
        return True


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
class Stop:
    """Ctrl-C at a host."""

    host: str


Step = Command | File | Carry | Stop


@dataclass(slots=True)
class Scene:
    """Steps in order, on the hosts of ``lab``."""

    name: str
    lab: str
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True)
class Page:
    """The scenes of a page; `left_out` are commands that are not run, with the reason."""

    name: str
    scenes: list[Scene] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def add(self, step: Step, where: str) -> None:
        """Add a step to the scene that has begun. PageError."""
        if not self.scenes:
            raise PageError(f"{where}: no lab above it")
        self.scenes[-1].steps.append(step)


def read(path: Path) -> Page:
    """Return the page at ``path``. Raises PageError."""
    page, reason, is_choice = Page(path.stem), "", False
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        where = f"{path.name}:{number}"
        if comment := _COMMENT.match(line):
            reason = _note(page, comment[1], comment[2], where) or reason
        elif line == _ONE_OF_THESE:
            is_choice = True
        elif line.startswith(_FENCE):
            kind = line.removeprefix(_FENCE)
            block = list(itertools.takewhile(_FENCE.__ne__, (inside for _, inside in lines)))
            if kind == "console":
                _take(page, block, reason, where, is_choice=is_choice)
                reason, is_choice = "", False
            else:
                _take_file(page, kind, block, where)
    if reason or is_choice:
        raise PageError(f"{path.name}: a comment for a console block, without one behind it")
    return page


def _take_file(page: Page, kind: str, block: list[str], where: str) -> None:
    """Take in a block that has no commands: a file that is written, or one that is only shown."""
    language, _, more = kind.partition(" ")
    if language not in _FILES:
        names = ", ".join(sorted(_FILES))
        raise PageError(f"{where}: a block {kind!r}; use console, or one of {names}")
    if more:
        name, _, host = more.partition(" on ")
        page.add(File(host, name, "\n".join([*block, ""])), where)


def _note(page: Page, kind: str, text: str, where: str) -> str:
    """Take in a comment; returns the reason of one that leaves the next block out."""
    if kind == "not run":
        return text
    if kind == "lab":
        page.scenes.append(Scene(f"{page.name}-{len(page.scenes) + 1}", text))
    elif kind == "before":
        _take(page, [text], "", where, is_choice=False)
    elif kind == "stop":
        page.add(Stop(text), where)
    elif found := re.fullmatch(r"(\S+) from (\S+) to (\S+)", text):
        page.add(Carry(*found.groups()), where)
    else:
        raise PageError(f"{where}: {text!r} is not FILE from HOST to HOST")
    return ""


def _take(page: Page, block: list[str], reason: str, where: str, *, is_choice: bool) -> None:
    command: Command | None = None
    for line in block:
        if prompt := _PROMPT.match(line):
            host, text = prompt[1], prompt[3]
            command = Command(host, text, where)
            if reason:
                page.left_out.append((text, reason))
                continue
            if not host:
                raise PageError(f"{where}: {text}: at which host?")
            if is_choice:
                page.add(Stop(host), where)
            page.add(command, where)
        elif command is None:
            raise PageError(f"{where}: output before a command: {line!r}")
        else:
            command.expected.append(line)
