"""Which tests cover a file.

C: the programs of tests/native that execute a line, by gcov. Python: the test modules that import
the module, directly or through a module of tests/support; those of the same name come first.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutation.testing import MAKE, TEST_TIMEOUT_S, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.mutation.mutant import Mutant

# More programs or modules than these for one mutant would take minutes.
_TESTS_MAX = 12
_FOLDERS = ("unit", "property")


def with_tests(mutants: list[Mutant], copy: Path) -> list[Mutant]:
    """Return the mutants with the tests that cover them."""
    in_c = sorted({mutant.path for mutant in mutants if not mutant.path.endswith(".py")})
    native = NativeCoverage(copy, in_c) if in_c else None
    python = PythonCoverage(copy)
    return [
        dataclasses.replace(mutant, python=python.of(mutant.path))
        if native is None or mutant.path.endswith(".py")
        else dataclasses.replace(mutant, native=native.of(mutant.path, mutant.line))
        for mutant in mutants
    ]


class NativeCoverage:
    """Runs every program of tests/native once, built for gcov, in a copy of the checkout."""

    def __init__(self, copy: Path, paths: Iterable[str]) -> None:
        """Build and run; takes a minute or two. RuntimeError if that fails."""
        self._copy = copy
        self._native = copy / "tests" / "native"
        self._objects = {path: self._objects_with(path) for path in paths}
        build = [*MAKE, f"-j{os.cpu_count() or 1}", "BUILD=build/gcov", "TSAN_TESTS="]
        status, output = run([*build, "ASAN=--coverage -fprofile-update=atomic", "programs"], copy)
        if status:
            raise RuntimeError(f"the native tests do not build:\n{output[-2000:]}")
        self._found: dict[tuple[str, int], list[tuple[int, str]]] = {}
        programs = sorted(
            path for path in self._native.glob("build/gcov/asan/test_*") if path.suffix == ""
        )
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for test, counts in zip(programs, pool.map(self._counts, programs), strict=True):
                for place, n in counts.items():
                    self._found.setdefault(place, []).append((n, test.name))

    def of(self, path: str, line: int) -> tuple[str, ...]:
        """Return the programs that execute a line, the one named after the file first.

        Of the rest those that execute it least often come first: they are the ones about it, or
        at least the quick ones. A line without code of its own (a constant, a condition's second
        line) has those of the file.
        """
        found = self._found.get((path, line)) or [
            (n, test)
            for (other, _), tests in self._found.items()
            if other == path
            for n, test in tests
        ]
        named = f"test_{Path(path).stem}"
        tests = [test for _, test in sorted(found, key=lambda item: (item[1] != named, item[0]))]
        return tuple(dict.fromkeys(tests))[:_TESTS_MAX]

    def _objects_with(self, path: str) -> list[str]:
        """The object files that have the lines of a source or header."""
        if path.endswith(".c"):
            return [Path(path).stem]
        name = path.removeprefix("csrc/")
        return [
            source.stem
            for source in sorted((self._copy / "csrc").rglob("*.c"))
            if f'#include "{name}"' in source.read_text(encoding="utf-8")
        ]

    def _counts(self, program: Path) -> dict[tuple[str, int], int]:
        """Run a program; return how often it executes each line of the paths asked for."""
        place = self._native / "build" / "counts" / program.name
        place.mkdir(parents=True, exist_ok=True)
        strip = len(program.parent.parts) - 1
        run(
            ["timeout", str(TEST_TIMEOUT_S), str(program)],
            self._native,
            {"GCOV_PREFIX": str(place), "GCOV_PREFIX_STRIP": str(strip)},
        )
        counts: dict[tuple[str, int], int] = {}
        for path, objects in self._objects.items():
            for name in objects:
                if (place / f"{name}.gcda").exists():
                    self._read(program, place, name, path, counts)
        return counts

    def _read(
        self, program: Path, place: Path, name: str, path: str, counts: dict[tuple[str, int], int]
    ) -> None:
        notes = place / f"{name}.gcno"
        if not notes.exists():
            notes.symlink_to(program.parent / f"{name}.gcno")
        _, output = run(["gcov", "--json-format", "--stdout", str(place / f"{name}.gcda")], place)
        for line in output.splitlines():
            if not line.startswith("{"):
                continue
            for file in json.loads(line)["files"]:
                if file["file"].endswith(path):
                    for entry in file["lines"]:
                        if entry["count"]:
                            key = (path, entry["line_number"])
                            counts[key] = counts.get(key, 0) + entry["count"]


class PythonCoverage:
    """What each test module imports."""

    def __init__(self, checkout: Path) -> None:
        """Read the modules of tests/unit, tests/property and tests/support."""
        self._imports: dict[str, set[str]] = {}
        support: dict[str, set[str]] = {}
        for path in sorted((checkout / "tests" / "support").glob("*.py")):
            support[f"tests.support.{path.stem}"] = set(_imported(path))
        for folder in _FOLDERS:
            for path in sorted((checkout / "tests" / folder).rglob("test_*.py")):
                direct = set(_imported(path))
                through = {name for module in direct for name in support.get(module, ())}
                self._imports[path.relative_to(checkout).as_posix()] = direct | through

    def of(self, path: str) -> tuple[str, ...]:
        """Return the test modules for a module of fastun; of its package if none imports it."""
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        while "." in module:
            tests = [test for test, names in self._imports.items() if _uses(names, module)]
            if tests:
                stem = module.rpartition(".")[2]
                tests.sort(key=lambda test: (f"test_{stem}" not in test, test))
                return tuple(tests[:_TESTS_MAX])
            module = module.rpartition(".")[0]
        return ()


def _uses(names: set[str], module: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in names)


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
