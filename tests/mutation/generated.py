"""Mutants of given lines, made by universalmutator's rules for C and Python.

Its rules replace operators, constants, conditions and whole statements, line by line. What changes
nothing that a test could see is left out: comments, docstrings, log texts, imports, declarations.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import io
import re
import subprocess
from typing import TYPE_CHECKING

from universalmutator import mutator

from tests.mutation.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_RULES = {
    ".c": ["universal.rules", "c_like.rules", "c.rules"],
    ".h": ["universal.rules", "c_like.rules", "c.rules"],
    ".py": ["universal.rules", "python.rules"],
}
# Lines that are not mutated.
_IGNORED = [
    r"^\s*(//|/\*|\*|#)",
    r"^\s*(from|import|@|assert|raise\b.*\(f?\"|\}|\)|struct \w+ \{)",
    r"\blog(ger)?\.(debug|info|warning|error)\(",
    r"_Static_assert|__attribute__",
]
# So many of one line: a line of many operators would take hours.
_PER_LINE = 8


def mutants_of(checkout: Path, path: str, lines: Collection[int] | None) -> list[Mutant]:
    """Return the mutants of `lines` of a file (of all if None) that compile as such."""
    source = (checkout / path).read_text(encoding="utf-8").splitlines(keepends=True)
    suffix = path[path.rindex(".") :]
    left_out = _not_code(source) if suffix == ".py" else frozenset()
    n_of_line: dict[int, int] = {}
    mutants = []
    for line, changed in _in_turn(source, _RULES[suffix]):
        wanted = (lines is None or line in lines) and line not in left_out
        if not wanted or n_of_line.get(line, 0) == _PER_LINE or _is_same(source[line - 1], changed):
            continue
        text = "".join((*source[: line - 1], changed, *source[line:]))
        if suffix == ".py" and not _is_other_python("".join(source), text):
            continue
        n_of_line[line] = n_of_line.get(line, 0) + 1
        mutants.append(Mutant(path, line, _as_change(source[line - 1], changed), text))
    return mutants


def _in_turn(source: list[str], rules: list[str]) -> Iterator[tuple[int, str]]:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        found = mutator.mutants_regexp(source, rules, ignorePatterns=_IGNORED)
    # Of each line the rules in turn, so that the limit does not keep the first kind alone.
    by_rule: dict[tuple[int, str], list[str]] = {}
    for line, changed, (rule, _), _ in found:
        by_rule.setdefault((line, rule.partition(" ==> ")[0]), []).append(changed)
    while by_rule:
        for key in list(by_rule):
            yield key[0], by_rule[key].pop(0)
            if not by_rule[key]:
                del by_rule[key]


def _is_same(before: str, after: str) -> bool:
    """Whether only spaces differ, or a number that is part of a name: uint8_t."""
    pairs = enumerate(zip(before, after, strict=False))
    start = next((at for at, (a, b) in pairs if a != b), len(before))
    in_name = before[start : start + 1].isdigit() and re.match(r"\w", before[start - 1 : start])
    return before.split() == after.split() or bool(in_name)


def _not_code(source: list[str]) -> frozenset[int]:
    """The lines of docstrings and of messages for a person."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse("".join(source))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(lines)


def _is_other_python(before: str, after: str) -> bool:
    try:
        return ast.dump(ast.parse(after)) != ast.dump(ast.parse(before))
    except (SyntaxError, ValueError):
        return False


def _as_change(before: str, after: str) -> str:
    """Return the line with what has changed marked: `a [- < -][+ <= +] b`."""
    before, after = before.strip(), " ".join(after.split())
    before = " ".join(before.split())
    pieces = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
        if kind == "equal":
            pieces.append(before[a:b])
            continue
        pieces.append(f"[-{before[a:b]}-]" if b > a else "")
        pieces.append(f"[+{after[c:d]}+]" if d > c else "")
    return "".join(pieces)


def changed_lines(checkout: Path, base: str) -> dict[str, set[int]]:
    """Return the lines of csrc and fastun that differ from a commit, by file."""
    diff = subprocess.run(
        ["git", "diff", "--unified=0", "--no-color", "--diff-filter=d", base, "--", *FOLDERS],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: dict[str, set[int]] = {}
    path = ""
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            path = line.removeprefix("+++ b/")
        elif line.startswith("@@") and path.endswith(tuple(_RULES)):
            start, _, n = line.split()[2].removeprefix("+").partition(",")
            found.setdefault(path, set()).update(range(int(start), int(start) + int(n or 1)))
    return {path: lines for path, lines in found.items() if lines}


FOLDERS = ("csrc", "fastun")


def sources_below(checkout: Path, path: str) -> list[str]:
    """Return a file, or those below a folder."""
    place = checkout / path
    files = [place] if place.is_file() else sorted(place.rglob("*"))
    return [
        file.relative_to(checkout).as_posix()
        for file in files
        if file.suffix in _RULES and file.name != "_fastun.c"
    ]
