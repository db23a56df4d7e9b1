"""What the log warns of is explained in docs/operations.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
EXPLAINED = [
    phrase
    for row in re.findall(r"^\| (`.*?) \| ", PAGE, flags=re.MULTILINE)
    for phrase in re.findall(r"`([^`]+)`", row)
]
HOLE = "\0"  # where a line has a value


def texts(node: ast.expr) -> list[str]:
    """The texts that an event may have; none where it comes from elsewhere."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)
        return ["".join(map(str, parts))]
    if isinstance(node, ast.IfExp):
        return texts(node.body) + texts(node.orelse)
    return []


def warnings() -> tuple[list[tuple[str, str]], list[str]]:
    """Where something is logged as a warning or an error with its text; and where without one."""
    literal, others = [], []
    for path in sorted((ROOT / "fastun").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if not (is_call and node.func.attr in {"warning", "error"} and node.args):
                continue
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            found = texts(node.args[0])
            literal += [(where, text) for text in found]
            others += [] if found else [where]
    return literal, others


def test_each_warning_and_error_of_the_log_is_explained() -> None:
    literal, others = warnings()
    missing = [
        f"{where}: {text!r}"
        for where, text in literal
        if not any(phrase in part for phrase in EXPLAINED for part in text.split(HOLE))
    ]
    assert missing == [], "add a row to the table of docs/operations.md"
    assert len(literal) > 80
    assert len(others) < 20, others  # an event with a name of its own: these are not looked at
