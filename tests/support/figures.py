"""What tests of promises have measured, as lines of JSON, and the table made of them.

    @pytest.mark.promise("A killed worker is replaced within a second")
    def test_...(figures: Figures) -> None:
        figures.worst("longest outage", outage_s, "s")

Every run of such a test that passes leaves a line in the file that FASTUN_FIGURES names, if there
is one: of the short form, as in CI, or with FASTUN_SOAK=1 of the long one. `python -m
tests.support.figures` makes docs/reliability.md's table of tests/figures.jsonl, in which the last
line of a test counts.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "tests" / "figures.jsonl"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- made by: python -m tests.support.figures -->"
END = "<!-- the end of what is made -->"
FORMS = ("short", "long")


class Figures:
    """Of one test."""

    def __init__(self) -> None:
        """Begin without any."""
        self.values: list[dict[str, Any]] = []

    def worst(self, what: str, value: float, unit: str) -> None:
        """Note a value of which the greatest counts, of all cases of a promise."""
        self.values.append({"what": what, "how": "worst", "value": value, "unit": unit})

    def total(self, what: str, value: float) -> None:
        """Note a number that is added up over all cases of a promise."""
        self.values.append({"what": what, "how": "total", "value": value, "unit": ""})


def keep(node: str, promise: str, figures: Figures) -> None:
    """Append a test that has passed to the file, if one is named."""
    file = os.environ.get("FASTUN_FIGURES")
    if not file:
        return
    line = {
        "promise": promise,
        "test": node,
        "form": FORMS[os.environ.get("FASTUN_SOAK") == "1"],
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": machine(),
        "figures": figures.values,
    }
    with Path(file).open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(line) + "\n")


def machine() -> str:
    """Say on what this runs."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    names = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE) or [platform.machine()]
    release = ".".join(platform.release().split(".")[:2])
    return f"{os.cpu_count()} x {names[0].strip()}, Linux {release}"


# -- which promises there are ---------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Promise:
    """A promise, and the test of it."""

    text: str
    file: str
    test: str


def promises(folder: Path = ROOT / "tests") -> list[Promise]:
    """Return the promises of all tests, in the order of the files."""
    found = []
    for file in sorted(folder.rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if "mark.promise(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                said = [promised for each in node.decorator_list if (promised := _said(each))]
                found += [Promise(each, str(file.relative_to(ROOT)), node.name) for each in said]
    return found


def _said(decorator: ast.expr) -> str:
    if not isinstance(decorator, ast.Call) or ast.unparse(decorator.func) != "pytest.mark.promise":
        return ""
    (said,) = decorator.args
    return str(ast.literal_eval(said))


# -- the table ------------------------------------------------------------------------------------


def last_lines(file: Path = STORED) -> list[dict[str, Any]]:
    """Return what counts of a file: of each case of a test and each form the last line."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        line = json.loads(text)
        last[line["test"], line["form"]] = line
    return sorted(last.values(), key=lambda line: (line["test"], line["form"]))


def table(found: list[Promise], lines: list[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    machines = sorted({line["machine"] for line in lines})
    rows = ["| promise | test | in CI | long form |", "| --- | --- | --- | --- |"]
    for text in dict.fromkeys(promise.text for promise in found):
        of_text = [promise for promise in found if promise.text == text]
        of_it = [line for line in lines if any(_is_of(line, each) for each in of_text)]
        link = f"[{Path(of_text[0].file).stem}](../{of_text[0].file})"
        cells = (
            _cell([line for line in of_it if line["form"] == form], machines) for form in FORMS
        )
        rows.append("| " + " | ".join((text, link, *cells)) + " |")
    notes = [f"({number}) {name}" for number, name in enumerate(machines, start=1)]
    return "\n".join((*rows, "", f"Machines: {'; '.join(notes)}." if notes else "No figures yet."))


def _is_of(line: dict[str, Any], promise: Promise) -> bool:
    file, _, name = line["test"].partition("::")
    return (file, name.partition("[")[0]) == (promise.file, promise.test)


def _cell(lines: list[dict[str, Any]], machines: list[str]) -> str:
    if not lines:
        return "-"
    values: dict[str, dict[str, Any]] = {}
    for each in (each for line in lines for each in line["figures"]):
        known = values.setdefault(each["what"], {**each, "value": 0})
        known["value"] = (
            max(known["value"], each["value"])
            if each["how"] == "worst"
            else known["value"] + each["value"]
        )
    said = [f"{what} {_number(value)}" for what, value in values.items()] or ["held"]
    newest = max(lines, key=lambda line: str(line["date"]))
    return f"{'; '.join(said)} ({newest['date']}, {machines.index(newest['machine']) + 1})"


def _number(value: dict[str, Any]) -> str:
    text = f"{value['value']:,.0f}" if value["value"] >= 100 else f"{value['value']:.3g}"
    return f"{text} {value['unit']}".rstrip()


def with_table(page: str, made: str) -> str:
    """Return the page with the table in its place."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def main() -> None:
    """Keep what counts of the stored lines, with those of the files named, and write the page."""
    for file in sys.argv[1:]:
        with STORED.open("a", encoding="utf-8") as stored:
            stored.write(Path(file).read_text(encoding="utf-8"))
    found = promises()
    lines = [line for line in last_lines() if any(_is_of(line, each) for each in found)]
    STORED.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table(found, lines)), "utf-8")


if __name__ == "__main__":
    main()
