"""Imports: no circle between modules, and every module has a place in the order of the parts.

That nothing imports upward is checked by import-linter (`make lint`, pyproject.toml). Imports in
functions and for type checking count in both.
"""

from __future__ import annotations

import graphlib
import tomllib
from pathlib import Path

import grimp
import pytest

PYPROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
(CONTRACT,) = (
    contract
    for contract in PYPROJECT["tool"]["importlinter"]["contracts"]
    if contract["type"] == "layers"
)
PARTS = [
    part.strip(" ()") for layer in CONTRACT["layers"] for part in layer.replace("|", ":").split(":")
]
IGNORED = {tuple(each.split(" -> ")) for each in CONTRACT.get("ignore_imports", [])}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("fastun", cache_dir=None)


def test_no_module_imports_itself_in_a_circle(graph: grimp.ImportGraph) -> None:
    imports = {
        module: {
            imported
            for imported in graph.find_modules_directly_imported_by(module) - {module}
            if (module, imported) not in IGNORED
        }
        for module in graph.modules
    }
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_every_module_has_a_place_in_the_order(graph: grimp.ImportGraph) -> None:
    packages = {module.rpartition(".")[0] for module in graph.modules}
    assert {
        module
        for module in graph.modules - packages - {"fastun.native._fastun"}
        if not any(f"{module}.".startswith(f"{part}.") for part in PARTS)
    } == set()
