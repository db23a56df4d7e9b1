"""The reference of the configuration file, made from the definitions of its fields.

docs/configuration.md has it as tables (`python -m fastun.config docs/configuration.md` renews
them); fastun.config.manual makes fastun.toml(5) of it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import inspect, structs

from fastun.config.document import SECTIONS, Document
from fastun.config.sections.base import first_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

# What types are called. A secret, or a date, is a string as well.
_KINDS: Final[dict[type[inspect.Type], str]] = {
    inspect.StrType: "string",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
    inspect.VarTupleType: "list of strings",
    inspect.CustomType: "string",
    inspect.StructType: "table",
}

_HEADER: Final = (
    "| field | type | default | values | meaning | example |",
    "| --- | --- | --- | --- | --- | --- |",
)
_OPTION_ROW: Final = re.compile(
    r"^(\| [^\n]*?(--[a-z-]+)[^\n]*? \| .* \| )(.*)( \|)$", re.MULTILINE
)


class Field(NamedTuple):
    """A field as the reference has it, in Markdown. `option` overrides it, "" for none."""

    name: str
    kinds: str
    default: str
    values: str
    text: str
    example: str
    option: str


def sections() -> dict[str, str]:
    """Return the names of the sections by their headings in a file."""
    return {
        f"[[{each.name}]]" if each.default == () else f"[{each.name}]": each.name
        for each in structs.fields(Document)
    }


def fields(section: str) -> list[Field]:
    """Return the fields of a section in order, each table behind the field that it is for."""
    found: list[Field] = []
    described = inspect.type_info(SECTIONS[section])
    assert isinstance(described, inspect.StructType)  # noqa: S101 (for mypy)
    for each in described.fields:
        found.append(_field(each))
        table = f"{section}.{each.name}"
        if table in SECTIONS:
            found += [field._replace(name=f"{each.name}.{field.name}") for field in fields(table)]
    return found


def _field(field: inspect.Field) -> Field:
    about = field.type
    assert isinstance(about, inspect.Metadata), f"{field.name} is not described"  # noqa: S101
    schema, extra = about.extra_json_schema or {}, about.extra or {}
    return Field(
        name=field.name,
        kinds=" or ".join(_kinds(about)),
        default=extra["unset"] if field.default is None else _code(field.default),
        values=extra["values"],
        text=schema["description"],
        example=_code(schema["examples"][0]),
        option=extra["option"],
    )


def _kinds(described: inspect.Type) -> Iterator[str]:
    """Yield the names of a field's types; None is for a field that is not there."""
    while isinstance(described, inspect.Metadata):
        described = described.type
    parts = described.types if isinstance(described, inspect.UnionType) else (described,)
    for part in parts:
        if not isinstance(part, inspect.NoneType):
            yield _KINDS[type(part)]


def _code(value: Any) -> str:
    return f"`{json.dumps(value)}`"  # TOML's strings, numbers and lists are as JSON's


# -- docs/configuration.md --------------------------------------------------------------------


def markdown(section: str) -> str:
    """Return the table of a section."""
    rows = (
        (f"`{each.name}`", each.kinds, each.default, each.values, each.text, each.example)
        for each in fields(section)
    )
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "\n".join([*_HEADER, *(f"| {line} |" for line in lines), ""])


def renewed(page: str) -> str:
    """Return the text of docs/configuration.md with what is in fields' definitions as of now."""
    parts = re.split(r"^(?=#+ )", page, flags=re.MULTILINE)
    return "".join(map(_renewed_part, parts))


def _renewed_part(part: str) -> str:
    title = part.partition("\n")[0]
    if re.search(r"`fastun (serve|connect)`", title):
        return _OPTION_ROW.sub(_renewed_row, part)
    name = sections().get(title.strip("# `"))
    if name is None:
        return part
    table = re.compile(r"^\| field .*\n(\|.*\n)+", re.MULTILINE)
    return table.sub(lambda _: markdown(name), part, count=1)


def _renewed_row(row: re.Match[str]) -> str:
    for heading, section in sections().items():
        for field in fields(section):
            if field.option == row[2]:
                several = " May be repeated." if field.kinds.startswith("list") else ""
                link = f"[`{section}.{field.name}`](#{heading.strip('[]')})"
                what = f"{first_sentence(field.text)}{several} In the file: {link}."
                return f"{row[1]}{what}{row[4]}"
    return row[0]
