"""The reference of the configuration file is that of the fields' definitions, and true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from fastun.command.cli import cli
from fastun.config import settings
from fastun.config.document import SECTIONS
from fastun.config.manual import manual
from fastun.config.reference import Field, fields, markdown, renewed, sections
from fastun.config.sections.base import summary
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from fastun.vocabulary import Role

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
FIX = "run: python -m fastun.config docs/configuration.md"

HEADINGS = {section: heading for heading, section in sections().items()}
FIELDS = [(section, field) for section in HEADINGS for field in fields(section)]
NUMBERS = re.compile(r"([\d.]+)-([\d.]+)$")
IN_RANGE = [(section, field) for section, field in FIELDS if NUMBERS.match(field.values)]
KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
OWN_KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
# What a file needs besides, so that nothing but the field can be wrong.
PEER = f'[[peer]]\npublic_key = "{KEY}"\nallowed_ips = ["10.9.0.9/32"]\n'
REST = {
    "connect": '[interface]\naddress = ["10.9.0.2/24"]\n' + PEER + 'endpoint = "udp://192.0.2.1"\n',
    "serve": PEER,
}
# What a field is of no use without.
NEEDED = {
    "peer.limit.burst": 'limit.outbound = "1Mbit"\n',
    "peer.quota.then": 'quota.size = "1GB"\n',
    "interface.allow_lan": "kill_switch = true\n",
}


def ids(part: object) -> str:
    return part.name if isinstance(part, Field) else str(part)


def load(role: Role, text: str, directory: Path) -> settings.Settings:
    path = directory / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return settings.load(role, None, settings.Options(config=path))


def with_field(role: Role, section: str, field: Field, value: str) -> str:
    """A file that would do, with one field of it as given."""
    rest, line = REST[role], f"{field.name} = {value}\n"
    instead = "endpoints?" if "endpoint" in field.name else field.name
    rest = re.sub(rf"^{instead} = .*\n", "", rest, flags=re.MULTILINE)
    heading = HEADINGS[section] + "\n"
    line = NEEDED.get(f"{section}.{field.name}", "") + line
    if section == "fleet" and field.name != "directory":
        line = f'directory = "postgresql://db.example.net/fastun"\n{line}'
    return rest.replace(heading, heading + line) if heading in rest else heading + line + rest


def role_of(section: str, field: Field) -> Role:
    ours = section == "interface" and field.name != "address"
    return "connect" if ours or field.name in {"endpoint", "endpoints"} else "serve"


@pytest.mark.parametrize("section", HEADINGS)
def test_the_page_has_the_table_of_each_section(section: str) -> None:
    assert f"### `{HEADINGS[section]}`\n" in PAGE
    assert markdown(section) in PAGE, FIX


def test_the_page_is_as_the_definitions_are() -> None:
    assert renewed(PAGE) == PAGE, FIX


def test_a_page_of_before_gets_tables_and_options_of_now() -> None:
    old = (
        "### `fastun connect`\n\n| option | default | meaning |\n| --- | --- | --- |\n"
        "| `--mtu BYTES` | 1420 | As it was. |\n| `--check` | off | Stays. |\n\n"
        "### `[log]`\n\nText.\n\n| field | type |\n| --- | --- |\n| `old` | x |\n"
        "\n| other | table |\n"
    )
    new = renewed(old)
    assert "| `--mtu BYTES` | 1420 | MTU of the device, in bytes. In the file:" in new
    assert "| `--check` | off | Stays. |" in new
    assert new.endswith(f"Text.\n\n{markdown('log')}\n| other | table |\n")


@pytest.mark.parametrize(("section", "field"), FIELDS, ids=ids)
def test_each_field_says_what_it_is_in_sentences(section: str, field: Field) -> None:
    assert re.fullmatch(r"[A-Z`\"].*\.", field.text), (section, field)
    assert field.default != "`null`"
    assert not re.search("integer|number", field.kinds) or field.values


@pytest.mark.parametrize(("section", "field"), FIELDS, ids=ids)
def test_each_example_is_a_value_that_is_accepted(
    section: str, field: Field, tmp_path: Path
) -> None:
    value = field.example.strip("`")
    if field.name in {"private_key", "preshared_key"}:
        value = json.dumps(OWN_KEY)  # the page has no key that would work
    for name in ("private.key", "office.psk"):
        (tmp_path / name).write_text(OWN_KEY)
        (tmp_path / name).chmod(0o600)
    text = with_field(role_of(section, field), section, field, value)
    if field.name in {"wire", "up", "down"}:  # needs an option, a program of one's own
        wanted = {"wire": "--insecure"}.get(field.name, "does not exist")
        with pytest.raises(ConfigError, match=wanted):
            load("serve", text, tmp_path)
        return
    if field.name == "bridge":
        text = 'interface = { mode = "tap", bridge = "br0" }\n'
        load("serve", text, tmp_path)
        return
    load(role_of(section, field), text, tmp_path)


@pytest.mark.parametrize(("section", "field"), IN_RANGE, ids=ids)
def test_a_number_out_of_the_range_of_the_page_is_refused(
    section: str, field: Field, tmp_path: Path
) -> None:
    found = NUMBERS.match(field.values)
    assert found
    smallest, largest = found.groups()
    role = role_of(section, field)
    for within in (smallest, largest):
        load(role, with_field(role, section, field, within), tmp_path)
    for outside in (f"-{smallest}" if smallest != "0" else "-1", str(float(largest) + 1)):
        value = outside if field.kinds == "number" else outside.removesuffix(".0")
        with pytest.raises(ConfigError, match=rf"{section}.*{field.name}.*out of range.*{largest}"):
            load(role, with_field(role, section, field, value), tmp_path)


def test_there_are_ranges_to_look_at() -> None:
    assert len(IN_RANGE) > 5


@pytest.mark.parametrize("command", ["serve", "connect"])
def test_help_says_of_an_option_what_the_page_says_of_its_field(command: str) -> None:
    options = {
        name: option
        for option in cli.commands[command].params
        if isinstance(option, click.Option)
        for name in option.opts
    }
    overriding = [(section, field) for section, field in FIELDS if field.option in options]
    assert len(overriding) > 7
    for section, field in overriding:
        said = options[field.option].help or ""
        assert said.startswith(summary(SECTIONS[section], field.name))


def test_the_manual_has_each_field_and_no_request_by_accident() -> None:
    text = manual()
    for heading in HEADINGS.values():
        assert f'.SH "{heading}"' in text
    for _, field in FIELDS:
        assert rf"\fB{field.name}\fR ({field.kinds}" in text
    requests = {line.split()[0] for line in text.splitlines() if line.startswith((".", "'"))}
    assert requests == {".TH", ".SH", ".B", ".I", ".br", ".BR", ".TP", ".EX", ".EE"}
    assert "](" not in text
    assert "`" not in text
