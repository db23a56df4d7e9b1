"""Which functions of fastun take bytes or text apart, found in its sources by what they call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

FASTUN = Path(__file__).parents[2] / "fastun"

# Calls by which bytes or text become something else, by their last name.
CALLS = frozenset(
    {
        "b64decode",
        "decode",
        "frombytes",
        "from_bytes",
        "fromhex",
        "fullmatch",
        "iter_unpack",
        "loads",
        "pread",
        "read_bytes",
        "read_text",
        "recv",
        "recv_fds",
        "recvfrom",
        "recvmsg",
        "sock_recv",
        "split",
        "splitlines",
        "unpack",
        "unpack_from",
        "unpack_printable",
        "unpack_tagged",
    }
)
# Programs on a user's terminal, which read only what fastun itself, or the user, has written.
OF_THE_USER = ("bench", "command", "doctor", "lab", "metrics/software.py", "native/build.py", "top")


def parsers() -> Iterator[str]:
    """Yield the name of each: "fastun/link/hello.py:decode"."""
    for path in sorted(FASTUN.rglob("*.py")):
        within = path.relative_to(FASTUN).as_posix()
        if not within.startswith(OF_THE_USER):
            yield from _of_tree(f"fastun/{within}:", ast.parse(path.read_text("utf-8")))


def _of_tree(prefix: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.ClassDef):
            yield from _of_tree(f"{prefix}{node.name}.", node)
        elif is_function and any(map(_is_parsing, ast.walk(node))):
            yield prefix + node.name


def _is_parsing(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in CALLS
