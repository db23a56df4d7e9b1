"""ARCHITECTURE's "A day in the life of a packet" names functions that are where it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
ARCHITECTURE = (CHECKOUT / "ARCHITECTURE.md").read_text(encoding="utf-8")
DAY = re.split(
    r"^## ", ARCHITECTURE.split("## A day in the life of a packet")[1], flags=re.MULTILINE
)[0]

#: In each direction the file that the packet enters by, and how many it may go through at most.
ENTRIES = {"Outbound": "csrc/outbound/tun_reader.c", "Inbound": "csrc/inbound/link_reader.c"}
FILES_MAX = 9


def directions() -> dict[str, list[tuple[str, list[str]]]]:
    """Return for each direction its files, and the functions that are named for each."""
    result = {}
    for section in re.split(r"^### ", DAY, flags=re.MULTILINE)[1:]:
        items = re.findall(
            r"^\d+\. `(csrc/[^`]+)`: (.*?)(?=^\d+\. |\Z)", section, re.MULTILINE | re.DOTALL
        )
        result[section.split(":")[0]] = [
            (path, re.findall(r"`(\w+)\(\)`", text)) for path, text in items
        ]
    return result


def place_of(function: str, path: str) -> int:
    """Return the line on which the file defines the function; 0 if it does not."""
    text = (CHECKOUT / path).read_text(encoding="utf-8")
    head = rf"^[A-Za-z_][\w\s*]*?\b{function}\([^;{{}}]*\) \{{$"
    found = re.search(head, text, re.MULTILINE)
    return text[: found.start()].count("\n") + 1 if found is not None else 0


def test_both_directions_are_there_with_few_files_each_and_the_entry_point_first() -> None:
    assert list(directions()) == list(ENTRIES)
    for direction, items in directions().items():
        assert items[0][0] == ENTRIES[direction]
        assert 1 < len({path for path, _ in items}) <= FILES_MAX


@pytest.mark.parametrize(
    ("path", "functions"), [item for items in directions().values() for item in items]
)
def test_every_named_function_is_defined_in_the_file_of_its_item(
    path: str, functions: list[str]
) -> None:
    assert functions
    places = [place_of(name, path) for name in functions]
    assert [name for name, place in zip(functions, places, strict=True) if place == 0] == []
    assert places == sorted(places), "in the order in which a packet meets them"


def test_no_function_is_named_outside_an_item() -> None:
    named = [name for items in directions().values() for _, names in items for name in names]
    assert re.findall(r"`(\w+)\(\)`", DAY) == named
