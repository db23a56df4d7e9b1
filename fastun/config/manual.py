"""The manual page fastun.toml(5), of man(7), made from the definitions of the fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fastun import __version__
from fastun.config.document import SECTIONS
from fastun.config.reference import Field, fields, sections
from fastun.config.sections.base import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = r""".SH NAME
fastun.toml \- configuration file of fastun
.SH SYNOPSIS
.B fastun serve \-c
.I FILE
.br
.B fastun connect
.I FILE
.SH DESCRIPTION
TOML. An option of the command line wins over the file, the file over the default. Everything is
checked before a device, a socket or a directory is touched; unknown fields are refused. A running
gateway applies a changed file with
.BR "fastun reload" .
A file that contains a key must be closed to group and others (mode 0600)."""

_FOOT: Final = r""".SH EXAMPLE
.EX
[interface]
address = ["10.9.0.1/24", "fd00:9::1/64"]

[push]
routes = ["172.16.9.0/24"]

[forward]
masquerade = ["eth0"]
.EE
.SH SEE ALSO
.BR fastun (1)"""


def manual(date: str = "") -> str:
    """Return the page, of ``date``."""
    lines = [f'.TH FASTUN.TOML 5 "{date}" "fastun {__version__}" "File Formats"', _HEAD]
    for heading, section in sections().items():
        about = " ".join((SECTIONS[section].__doc__ or "").split("\n\n")[0].split())
        lines += [f'.SH "{heading}"', _text(about.partition(": ")[2].capitalize())]
        for field in fields(section):
            lines += _entry(field)
    return "\n".join([*lines, _FOOT, ""])


def _entry(field: Field) -> Iterator[str]:
    values = f"; {_text(field.values)}" if field.values else ""
    yield ".TP"
    yield f"\\fB{field.name}\\fR ({field.kinds}{values}; default: {_text(field.default)})"
    yield _text(field.text)
    yield f"Example: {_text(field.example)}"


def _text(markdown: str) -> str:
    """Return Markdown as man(7) has it: code in bold, no links."""
    parts = re.split(r"`([^`]+)`", re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", markdown))
    return "".join(
        rf"\fB{_escaped(part)}\fR" if index % 2 else _escaped(plain(part))
        for index, part in enumerate(parts)
    )


def _escaped(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
