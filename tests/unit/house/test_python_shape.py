"""Limits of size for fastun's Python: what is larger is hard to take in at one reading."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

LINES_MAX = 350
PARAMETERS_MAX = 6  # of a constructor, beside self
FIELDS_MAX = 20  # of a class: attributes of its instances

# What may be larger, and why: "path" of a file, "path:Class" of a class.
EXCEPTIONS: dict[str, str] = {}


def fields(definition: ast.ClassDef) -> set[str]:
    """Return the names that a class declares, or that its methods give to self."""
    declared = {
        statement.target.id
        for statement in definition.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    return declared | {
        node.attr
        for node in ast.walk(definition)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def is_frozen(definition: ast.ClassDef) -> bool:
    """Return whether its instances are values: of those only the number of fields is limited."""
    calls = [each for each in definition.decorator_list if isinstance(each, ast.Call)]
    keywords = [*definition.keywords, *(keyword for call in calls for keyword in call.keywords)]
    return any(keyword.arg == "frozen" for keyword in keywords)


def n_parameters(definition: ast.ClassDef) -> int:
    """Return how many arguments its own constructor has; of a dataclass, those without default."""
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            arguments = statement.args
            return len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs) - 1
    is_dataclass = any("dataclass" in ast.unparse(each) for each in definition.decorator_list)
    if not is_dataclass or is_frozen(definition):
        return 0
    return sum(isinstance(each, ast.AnnAssign) and not each.value for each in definition.body)


def too_large(path: str, source: str) -> Iterator[tuple[str, str]]:
    """Yield what in a file is over a limit, and how far."""
    if (n_lines := source.count("\n")) > LINES_MAX:
        yield path, f"{n_lines} lines, at most {LINES_MAX}"
    for definition in ast.walk(ast.parse(source)):
        if not isinstance(definition, ast.ClassDef):
            continue
        place = f"{path}:{definition.name}"
        if (n := n_parameters(definition)) > PARAMETERS_MAX:
            yield place, f"{n} constructor parameters, at most {PARAMETERS_MAX}"
        if (n := len(fields(definition))) > FIELDS_MAX:
            yield place, f"{n} fields, at most {FIELDS_MAX}"


def found() -> dict[str, str]:
    return dict(
        each
        for file in sorted((ROOT / "fastun").rglob("*.py"))
        for each in too_large(str(file.relative_to(ROOT)), file.read_text())
    )


def test_no_file_constructor_or_class_is_over_its_limit() -> None:
    allowed = set(EXCEPTIONS)
    assert {place: why for place, why in found().items() if place not in allowed} == {}


def test_no_exception_is_left_that_is_not_needed() -> None:
    assert set(EXCEPTIONS) - set(found()) == set()


PARAMETERS = ", ".join(f"p{n}" for n in range(PARAMETERS_MAX + 1))
DECLARED = "\n".join(f"    f{n}: int" for n in range(FIELDS_MAX + 1))
SEVEN = "\n".join(f"    f{n}: int" for n in range(PARAMETERS_MAX + 1))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("\n" * (LINES_MAX + 1), "351 lines, at most 350"),
        (f"class A:\n    def __init__(self, {PARAMETERS}): ...\n", "7 constructor parameters"),
        (f"class A:\n    def __init__(self, *, {PARAMETERS}): ...\n", "7 constructor parameters"),
        (f"@dataclass\nclass A:\n{SEVEN}\n", "7 constructor parameters"),
        (f"@dataclass(frozen=True)\nclass A:\n{DECLARED}\n", "21 fields"),
        (f"class A(Struct, frozen=True):\n{DECLARED}\n", "21 fields"),
        (f"class A:\n{DECLARED}\n", "21 fields"),
    ],
)
def test_what_is_too_large_is_found(source: str, why: str) -> None:
    ((_, reason),) = too_large("a.py", source)
    assert reason.startswith(why)


@pytest.mark.parametrize(
    "source",
    [
        "\n" * LINES_MAX,
        f"@dataclass(frozen=True)\nclass A:\n{SEVEN}\n",
        f"@dataclass\nclass A:\n{SEVEN.replace('int', 'int = 0', 1)}\n",
        "class A:\n    def __init__(self, a, b, c, d, e, f): self.a = self.b = 1\n",
    ],
)
def test_what_is_not_too_large_is_passed(source: str) -> None:
    assert list(too_large("a.py", source)) == []
