"""Each package begins with what its modules are: a folder is read from its first file."""

from __future__ import annotations

import ast
import fnmatch
import re
from pathlib import Path

import pytest

import fastun

ROOT = Path(fastun.__file__).parent
PACKAGES = [path.parent for path in sorted(ROOT.rglob("__init__.py"))]


def words_of(package: Path) -> list[str]:
    """The words of a package's docstring, and patterns such as `*_cli`."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    return re.findall(r"\*?\w+\*?", ast.get_docstring(tree) or "")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_each_module_of_a_package_is_in_its_index(package: Path) -> None:
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    words = words_of(package)
    assert [
        name
        for name in sorted(modules | packages)
        if not any(fnmatch.fnmatchcase(name, word) for word in words)
    ] == []
