"""The tables of docs/metrics.md, made from what is measured."""

from __future__ import annotations

import re

from fastun.metrics.families import FAMILIES
from fastun.native import DIRECTIONS, DROPS


def markdown() -> str:
    """Return a table of all families."""
    rows = [
        f"| `{family.name}` | {family.type} | {' '.join(family.labels)} | {family.help} |"
        for family in FAMILIES
    ]
    return "\n".join(["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows])


def markdown_of_drops() -> str:
    """Return a table of all reasons for which packets are dropped."""
    rows = [
        f"| {DIRECTIONS[drop.role]} | {drop.role} | `{drop.reason}` | {drop.help} |"
        for drop in DROPS
    ]
    header = ["| direction | role | reason | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*header, *rows])


def renewed(page: str) -> str:
    """Return the text of docs/metrics.md with the tables of now in place of those it has."""
    for table in (markdown(), markdown_of_drops()):
        header = re.escape(table.partition("\n")[0])
        old = re.compile(rf"^{header}\n(\|.*\n)+", re.MULTILINE)
        page = old.sub(table.replace("\\", "\\\\") + "\n", page)
    return page
