"""The configuration file: TOML tables of known fields, read whole.

    file ---tomllib---> tables ---msgspec---> Document <---wg_quick.py--- wg-quick file

Here a file is checked for its form: fields that exist, of the right type. What the values mean is
for settings.py and fastun.peers.peer; written.py writes one. A file that holds a key is refused
when others can read it.
"""

import codecs
import contextlib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from fastun import input_file, private_file, service_user
from fastun.config import key_text
from fastun.config.sections.base import Secret, Section
from fastun.config.sections.interface import InterfaceSection
from fastun.config.sections.peer import LimitTable, Moment, PeerSection, QuotaTable
from fastun.config.sections.running import HooksSection, LogSection, MetricsSection, WorkersSection
from fastun.config.sections.serving import FleetSection, ForwardSection, ListenSection, PushSection
from fastun.errors import ConfigError, nearest, quote

# 130,560 allowed IPs, as WireGuard's own tests load, are 2 MiB, and 100,000 peers 12. This bounds
# what a wrong file (a disk's image, /dev/zero) can cost: a second, and some 100 MiB for a moment.
_MAX_FILE_BYTES: Final = 16 << 20


class Document(Section, frozen=True):
    """A whole configuration file."""

    interface: InterfaceSection = InterfaceSection()
    listen: ListenSection | None = None
    push: PushSection | None = None
    forward: ForwardSection | None = None
    hooks: HooksSection | None = None
    fleet: FleetSection | None = None
    metrics: MetricsSection = MetricsSection()
    log: LogSection = LogSection()
    workers: WorkersSection = WorkersSection()
    peer: tuple[PeerSection, ...] = ()


SECTIONS: Final[dict[str, type[Section]]] = {
    "": Document,
    "interface": InterfaceSection,
    "listen": ListenSection,
    "push": PushSection,
    "forward": ForwardSection,
    "hooks": HooksSection,
    "fleet": FleetSection,
    "metrics": MetricsSection,
    "log": LogSection,
    "workers": WorkersSection,
    "peer": PeerSection,
    "peer.limit": LimitTable,
    "peer.quota": QuotaTable,
}


@contextlib.contextmanager
def reading(
    path: Path,
    parse: Callable[[str, Path], Document] | None = None,
    *,
    is_again: bool = False,
) -> Iterator[Document]:
    """Yield what the file says; ConfigError names the file, and the field that is wrong.

    `parse` is for a file of another kind than TOML. `is_again`: a gateway runs on what it has said.
    No complaint from inside shows a key of the file, whoever raises it.
    """
    try:
        with input_file.opened(path) as file:
            status = os.fstat(file)  # By its path it could be another file by now.
            if is_again:
                _check_there(status, path)
            content = input_file.read(file, _MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path.
        reason = str(error.strerror if isinstance(error, OSError) else error)
        if isinstance(error, PermissionError):
            reason += service_user.how_to_let_it_read(path)
        raise ConfigError(f"cannot read configuration {quote(str(path))}: {reason}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(
            f"{path}: longer than {_MAX_FILE_BYTES >> 20} MiB, not a configuration file;"
            " give another"
        )
    # wg(8) minds no odd letter in a comment; in a value it is refused like any wrong letter.
    text = _decoded(content, path, errors="replace" if parse else "strict")
    with key_text.hidden(text, shown=str(path)):
        document = (parse or _parse)(text, path)
        _check_private(status, path, document)
        yield document


def _check_there(status: os.stat_result, path: Path) -> None:
    """Refuse what would read as a file without a line, which ends what runs on the lines of before.

    A pipe was read at the start, and an editor may have emptied the file only for a moment.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path}: not a file that can be read again; restart the gateway")
    if status.st_size == 0:
        raise ConfigError(f"{path}: empty; write the settings to it, then reload again")


def _decoded(content: bytes, path: Path, errors: str) -> str:
    """Return the text: UTF-8, or UTF-16 with its mark, as editors on other systems write it."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig", errors)
    except UnicodeDecodeError as error:
        # Its own text would show a byte of what may be a key.
        kind = "UTF-16" if is_utf16 else "UTF-8"
        raise ConfigError(
            f"{path}: byte {error.start} is not {kind}; save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise ConfigError(f"{path}: not a text file; save it as UTF-8")
    return text.replace("\r\n", "\n")


def _parse(text: str, path: Path) -> Document:
    try:
        return msgspec.convert(tomllib.loads(text), Document, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error))}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except ValueError:  # Python's limit, 4,300 digits
        raise ConfigError(f"{path}: a number has too many digits; write a shorter one") from None
    except RecursionError:
        raise ConfigError(f"{path}: brackets are nested too deeply; use fewer") from None


def _decode(kind: type, value: object) -> Secret | Moment:
    if kind is Moment and isinstance(value, date):  # a datetime is one
        return Moment(value.isoformat())
    if kind not in (Secret, Moment) or not isinstance(value, str):
        raise ValueError("must be a string in quotes")
    return Moment(value) if kind is Moment else Secret(value)


def _check_private(status: os.stat_result, path: Path, document: Document) -> None:
    """Refuse a file that holds a key and can be read or replaced by others."""
    held = [document.interface.private_key, *(peer.preshared_key for peer in document.peer)]
    if any(held):
        private_file.check(path, status, f"{path}: holds a key and")


def _explain(complaint: str) -> str:
    """Turn msgspec's "complaint - at `$.place`" to "place: complaint"; name the nearest field."""
    what, _, place = complaint.partition(" - at `$")
    place = place.strip("`.")
    what = what.replace(" | null", "")  # TOML has no null; None is for a field that is not there.
    unknown = re.fullmatch("Object contains unknown field `(.*)`", what, re.DOTALL)
    if unknown is None:
        what = _in_words(what.replace("`", ""))
        return f"{place}: {what}" if place else what
    field = f"{place}.{unknown[1]}".lstrip(".")
    known = SECTIONS.get(re.sub(r"\[.*?\]", "", place), Document).__struct_fields__
    meant = nearest(unknown[1], known)
    fix = f"did you mean {meant}?" if meant else f"use one of {', '.join(known)}"
    return f"{quote(field)}: unknown field; {fix}"


_KINDS: Final = {
    "bool": "true or false",
    "int": "an integer",
    "float": "a number",
    "str": "a string in quotes",
    "array": "a list in brackets",
    "object": "a section",
    "datetime": "a date",
    "date": "a date",
    "time": "a time",
}


def _in_words(complaint: str) -> str:
    """Say "Expected int, got str" without the names that types have in a program."""
    expected, _, got = complaint.removeprefix("Expected ").partition(", got ")
    if expected.startswith(("int <=", "int >=")):
        return "is out of range"
    kinds = expected.split(" | ")
    if got not in _KINDS or not _KINDS.keys() >= set(kinds):
        return complaint
    found = "a number with a fraction" if got == "float" else _KINDS[got]
    return f"must be {', or '.join(_KINDS[kind] for kind in kinds)}; it is {found}"


__all__ = [
    "SECTIONS",
    "Document",
    "FleetSection",
    "ForwardSection",
    "HooksSection",
    "InterfaceSection",
    "LimitTable",
    "ListenSection",
    "LogSection",
    "MetricsSection",
    "Moment",
    "PeerSection",
    "PushSection",
    "QuotaTable",
    "Secret",
    "reading",
]
