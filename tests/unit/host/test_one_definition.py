"""Each constant of csrc is defined once, and what packet headers look like in one file."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[3] / "csrc"
SOURCES = {
    str(path.relative_to(CSRC)): re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    for path in sorted(CSRC.rglob("*.[ch]"))
}
HEADERS = ("packet/headers.h", "packet/headers.c")

# Macros that name no constant of ours: feature switches, and the lists' parameter.
MANY_TIMES = {"_GNU_SOURCE", "X"}

# Names that say where a protocol's field is, or which number a protocol has.
FIELD = re.compile(
    r"(ETHERNET|VLAN|IPV4|IPV6|EXTENSION|TCP|UDP|ICMP|ICMPV6)_(\w+_)?(OFFSET|SIZE|LENGTH|HEADER)"
    r"|(PROTOCOL|ETHERTYPE|ETHERNET_TYPE|EXTENSION|TCP_OPTION)_\w+"
)
# A byte of a packet that is found by a number, or a nibble of it.
LITERAL = re.compile(
    r"\b(packet|ip|tcp|udp|icmp|frame|answer|segment)(\[[1-9]\d*\]| \+ \d+\b)"
    r"|>> 4\b|& (15|0xf)u?\) \*"
)


def constants(text: str) -> set[str]:
    """Return the enumerators and object-like macros that a source defines."""
    bodies = re.findall(r"\benum\b\s*\w*\s*\{(.*?)\}", text, flags=re.DOTALL)
    enumerators = [n for body in bodies for n in re.findall(r"(?:^|,)\s*([A-Z]\w*)", body)]
    return {*enumerators, *re.findall(r"^#define\s+(\w+)\b(?!\()", text, flags=re.MULTILINE)}


def test_no_constant_is_defined_in_two_files() -> None:
    places = defaultdict(list)
    for path, text in SOURCES.items():
        for name in constants(text) - MANY_TIMES:
            places[name].append(path)
    assert len(places) > 200
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", sorted(set(SOURCES) - set(HEADERS)))
def test_only_packet_headers_knows_where_header_fields_are(path: str) -> None:
    assert [name for name in constants(SOURCES[path]) if FIELD.fullmatch(name)] == []
    assert [match[0] for match in LITERAL.finditer(SOURCES[path])] == []


def test_the_patterns_find_what_they_are_for() -> None:
    assert constants("enum { A_OFFSET = 1,\n B = 2 };\n#define C 1\n#define D(x) x") == {
        "A_OFFSET", "B", "C"
    }  # fmt: skip
    for name in ("IPV4_LENGTH", "TCP_HEADER", "IPV6_HEADER", "PROTOCOL_TCP", "UDP_LENGTH_OFFSET"):
        assert FIELD.fullmatch(name), name
    for code in ("packet[9]", "be16_read(packet + 6)", "frame[0] >> 4 == 6", "(tcp[at] & 15u) * 4"):
        assert LITERAL.search(code), code
    assert any(FIELD.fullmatch(name) for name in constants(SOURCES[HEADERS[0]]))
