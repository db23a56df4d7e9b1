"""`SaveConfig`: where peers were heard last, in the text of a wg-quick file.

wg-quick(8) writes the whole file anew, and loses comments and what was changed in it meanwhile. All
that a running fastun knows and the file does not is endpoints; so these lines are put into the file
as it is then, and nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from fastun.endpoint import parse_host_port
from fastun.errors import ConfigError


def with_endpoints(text: str, endpoints: Mapping[str, str]) -> str:
    """Return the text with these endpoints, HOST:PORT by the text of the public key.

    An endpoint of the file that is a name stays: it is looked up when it is needed.
    """
    lines = text.split("\n")
    line_end = "\r" if "\r\n" in text else ""
    added: list[tuple[int, str]] = []
    for start, end in _peers(lines):
        fields = {key: index for index in range(start, end) if (key := _field(lines[index])[0])}
        at = fields.get("publickey")
        endpoint = None if at is None else endpoints.get(_field(lines[at])[1])
        if at is None or endpoint is None:
            continue
        known = fields.get("endpoint")
        if known is None:
            added.append((at, f"Endpoint = {endpoint}"))
        elif _is_literal(_field(lines[known])[1]):
            before = _field(lines[known])[1]
            lines[known] = lines[known].replace(before, endpoint, 1)
    for at, line in reversed(added):
        last_end = line_end if at < len(lines) - 1 else ""
        lines[at : at + 1] = [lines[at].rstrip("\r") + line_end, line + last_end]
    return "\n".join(lines)


def _peers(lines: list[str]) -> list[tuple[int, int]]:
    """Return each [Peer] section: the index of its first line, and of the one behind it."""
    heads = [index for index, line in enumerate(lines) if _content(line).startswith("[")]
    ends = [*heads[1:], len(lines)]
    return [
        (head, end)
        for head, end in zip(heads, ends, strict=False)
        if _content(lines[head]).lower() == "[peer]"
    ]


def _content(line: str) -> str:
    return line.partition("#")[0].lstrip("\ufeff").strip()


def _field(line: str) -> tuple[str, str]:
    key, equals, value = _content(line).partition("=")
    return (key.strip().lower(), value.strip()) if equals else ("", "")


def _is_literal(endpoint: str) -> bool:
    try:
        ip_address(parse_host_port(endpoint)[0])
    except (ValueError, ConfigError):
        return False
    return True
