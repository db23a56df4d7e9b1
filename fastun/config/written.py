"""A configuration file written: a client's, as `fastun peer add` prints it."""

import json
from collections.abc import Sequence

from fastun.config.document import Document, InterfaceSection, PeerSection, Secret


def write(document: Document) -> str:
    """Return the TOML of a document, keys included, with a line for each field that is not None."""
    tables = [_table("[interface]", document.interface)]
    tables += [_table("[[peer]]", peer) for peer in document.peer]
    return "\n".join(tables)


def _table(heading: str, section: InterfaceSection | PeerSection) -> str:
    defaults = type(section)()
    lines = [heading]
    for field in section.__struct_fields__:
        value = getattr(section, field)
        if value != getattr(defaults, field):
            lines.append(f"{field} = {_literal(value)}")
    return "\n".join(lines) + "\n"


def _literal(value: object) -> str:
    """Return a TOML value: JSON's strings of printable text, numbers and arrays are such."""
    if isinstance(value, Secret):
        value = value.reveal()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value)
