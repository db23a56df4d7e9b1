"""How the C sources lie: the order of the folders, and sizes that one reading can take in."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CSRC = Path(__file__).resolve().parents[3] / "csrc"
SOURCES = sorted(CSRC.rglob("*.[ch]"))

#: From the bottom. A file includes headers of its own folder and of those below it; folders in one
#: row do not see one another. "" has fastun.h, capture.h, confine.h and keys.h, for Python.
ORDER = [
    {""},
    {"packet"},
    {"shared"},
    {"host", "confine"},
    {"session"},
    {"loop"},
    {"outbound", "inbound"},
    {"worker"},
]

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 350
STRUCT_FIELDS_MAX = 20

#: What is larger, and why. A name that is not needed any more fails the test as well.
EXCEPTIONS: dict[str, str] = {}


def name_of(path: Path) -> str:
    """Return how #include names the file."""
    return str(path.relative_to(CSRC))


def folder_of(name: str) -> str:
    """Return the folder of a file that is named as #include names it."""
    return name.rpartition("/")[0]


def level_of(folder: str) -> int:
    """Return the folder's row in ORDER."""
    return next(i for i, folders in enumerate(ORDER) if folder in folders)


def includes_of(path: Path) -> list[str]:
    """Return the headers of ours that the file includes."""
    return re.findall(r'^#include "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)


def without_comments(text: str) -> str:
    """Return the source with comments and strings emptied; lines stay where they are."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match.group().count("\n")

    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.DOTALL)


def functions_of(text: str) -> Iterator[tuple[str, int]]:
    """Yield each function's name and its lines, from its first line to its closing brace.

    clang-format has put the two at the beginning of a line, and nothing else between them there.
    """
    whole = re.compile(r"^[A-Za-z_][\w\s*]*?(\w+)\([^;{}]*\) \{\n.*?^\}$", re.MULTILINE | re.DOTALL)
    for function in whole.finditer(without_comments(text)):
        yield function.group(1), function.group().count("\n") + 1


def structs_of(text: str) -> Iterator[tuple[str, int]]:
    """Yield each named struct and how many fields it has; one inside counts as one."""
    text = re.sub(r"^#.*(?:\\\n.*)*", "", without_comments(text), flags=re.MULTILINE)
    innermost = re.compile(r"(?:(struct|union)\s*(\w*)|\w+\s*)?\s*\{([^{}]*)\}")
    while (found := innermost.search(text)) is not None:
        if found.group(1) is not None:
            body = re.sub(r"\([^()]*\)|\[[^\]]*\]", "", found.group(3))
            fields = [declaration for declaration in body.split(";") if declaration.strip()]
            yield found.group(2) or "unnamed", sum(1 + field.count(",") for field in fields)
        text = text[: found.start()] + " inner " + text[found.end() :]


def test_every_folder_has_a_place_in_the_order() -> None:
    known = set().union(*ORDER)
    assert {folder_of(name_of(path)) for path in SOURCES} == known


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_includes_only_its_own_folder_and_those_below(path: Path) -> None:
    folder = folder_of(name_of(path))
    for name in includes_of(path):
        target = folder_of(name)
        assert (CSRC / name).is_file(), f"{name}: from csrc/, with its folder"
        assert target == folder or level_of(target) < level_of(folder), f"includes {name}"


def test_no_header_includes_itself_by_way_of_others() -> None:
    graph = {name_of(path): includes_of(path) for path in SOURCES}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_no_function_file_or_struct_is_too_long_to_read_at_once() -> None:
    too_large = {}
    for path in SOURCES:
        text, name = path.read_text(encoding="utf-8"), name_of(path)
        if (n_lines := text.count("\n")) > FILE_LINES_MAX:
            too_large[name] = f"{n_lines} lines"
        for function, n_lines in functions_of(text):
            if n_lines > FUNCTION_LINES_MAX:
                too_large[f"{name}: {function}"] = f"{n_lines} lines"
        for struct, n_fields in structs_of(text):
            if n_fields > STRUCT_FIELDS_MAX:
                too_large[f"{name}: struct {struct}"] = f"{n_fields} fields"
    assert {what: size for what, size in too_large.items() if what not in EXCEPTIONS} == {}
    assert [what for what in EXCEPTIONS if what not in too_large] == []


def test_the_measures_themselves_see_what_they_measure() -> None:
    source = """
/* { */
struct one {
    int a, b[2], *c; /* ; */
    struct {
        int d;
    } inner[3];
    void (*call)(int, int);
};

static inline bool
long_one(const struct one *one,
         int n) {
    if (n > 0) {
        return true;
    }
    return one != NULL;
}

int short_one(void) {
    return 1;
}
"""
    assert dict(functions_of(source)) == {"long_one": 8, "short_one": 3}
    assert dict(structs_of(source)) == {"unnamed": 1, "one": 5}
    loop = (CSRC / "loop/loop.h").read_text(encoding="utf-8")
    assert ("loop", 20) in structs_of(loop)
    n_functions = sum(1 for path in SOURCES for _ in functions_of(path.read_text("utf-8")))
    assert n_functions > 400
