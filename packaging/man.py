"""Manual pages from the commands' own definitions: ``python packaging/man.py DIR``.

Writes fastun.1 and a page for each command below it (fastun-peer-add.1), in the text of ``--help``,
and fastun.toml.5, of the fields of the configuration file.
The date is SOURCE_DATE_EPOCH's, so the same sources give the same pages.
"""

import datetime as dt
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from fastun import __version__
from fastun.command.cli import cli
from fastun.config.manual import manual

_LITERAL = "\b"  # click's mark of a paragraph not to be refilled

_FILES = {
    "/etc/fastun/NAME.toml": "Configuration of the services fastun-serve@NAME and "
    "fastun-connect@NAME; fastun.toml(5).",
    "/var/lib/fastun": "A server's key and its peers; what it has changed on this host.",
    "/run/fastun/INTERFACE.sock": "The control socket of a running gateway.",
}
_EXIT = {"0": "Done, or asked to stop.", "1": "Failed; one line says why.", "2": "Used wrongly."}


def escaped(text: str) -> str:
    """Return text that roff prints as it is: no line of it is a request."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def definition(term: str, text: str) -> list[str]:
    """Return a term with its explanation; words like --this are bold, VALUES are italic."""
    words = [escaped(word) for word in re.split(r"(?<!\S)(-{1,2}[\w-]+)", term)]
    written = "".join(rf"\fB{word}\fP" if i % 2 else word for i, word in enumerate(words))
    return [".TP", re.sub(r"(?<!\\f)\b([A-Z]+)\b", r"\\fI\1\\fP", written), escaped(text)]


def section(heading: str, definitions: Iterable[tuple[str, str]]) -> list[str]:
    """Return a section of terms, nothing where there is none."""
    lines = [line for term, text in definitions for line in definition(term, text)]
    return [f".SH {heading}", *lines] if lines else []


def paragraphs(text: str) -> Iterator[str]:
    """Yield the lines of a command's help."""
    for paragraph in text.split("\n\n"):
        is_literal = paragraph.startswith(_LITERAL)
        lines = paragraph.removeprefix(_LITERAL).strip("\n").split("\n")
        if is_literal and lines[0] == "Examples:":
            yield ".SH EXAMPLES"
            lines = lines[1:]
        else:
            yield ".PP"
        filled = escaped("\n".join(line.removeprefix("  ") for line in lines))
        yield f".nf\n{filled}\n.fi" if is_literal else filled


def below(context: click.Context) -> list[click.Context]:
    """Return the commands of a group."""
    commands = getattr(context.command, "commands", {})
    return [context_of(commands[name], name, context) for name in sorted(commands)]


def context_of(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    """Return what a command knows of itself when it is run."""
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def page_name(context: click.Context) -> str:
    """Return the name of a command's page: fastun-peer-add."""
    return context.command_path.replace(" ", "-")


def summary(context: click.Context) -> str:
    """Return the first sentence of a command's help."""
    first = inspect.cleandoc(context.command.help or "").split("\n\n", 1)[0]
    return " ".join(first.split()).removesuffix(".")


def page(context: click.Context, date: str) -> str:
    """Return the manual page of a command."""
    command, name = context.command, page_name(context)
    usage = escaped(" ".join(command.collect_usage_pieces(context)))
    records = (each.get_help_record(context) for each in command.get_params(context))
    lines = [
        f'.TH {name.upper()} 1 "{date}" "fastun {__version__}" "User Commands"',
        *(".SH NAME", rf"{escaped(name)} \- {escaped(summary(context))}"),
        *(".SH SYNOPSIS", rf"\fB{context.command_path}\fP {usage}"),
        *(".SH DESCRIPTION", *paragraphs(inspect.cleandoc(command.help or ""))),
        *section("COMMANDS", ((f"{page_name(each)}(1)", summary(each)) for each in below(context))),
        *section("OPTIONS", filter(None, records)),
    ]
    if context.parent is None:
        lines += [*section("FILES", _FILES.items()), *section("EXIT STATUS", _EXIT.items())]
        lines += [".SH SEE ALSO", r"\fBfastun.toml\fP(5)"]
    else:
        lines += [".SH SEE ALSO", rf"\fB{escaped(page_name(context.parent))}\fP(1)"]
    return "\n".join(lines) + "\n"


def pages(context: click.Context, date: str) -> Iterator[tuple[str, str]]:
    """Yield the file's name and the page of a command and of all below it."""
    yield f"{page_name(context)}.1", page(context, date)
    for each in below(context):
        yield from pages(each, date)


def main() -> None:
    """Write all pages."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    when = dt.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), dt.UTC)
    for name, text in pages(context_of(cli, "fastun"), f"{when:%Y-%m-%d}"):
        (out / name).write_text(text, encoding="utf-8")
    (out / "fastun.toml.5").write_text(manual(f"{when:%Y-%m-%d}"), encoding="utf-8")


if __name__ == "__main__":
    main()
