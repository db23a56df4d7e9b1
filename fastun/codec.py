"""msgpack, for everything that fastun sends as a map: control messages, hellos, probes, status.

Bytes that others made become a value here and nowhere else. Their length is limited before they are
parsed, and each part is validated against a type as it is read: no partial or unexpected value
comes out, and what is not expected costs nothing. (A library that parses first makes room for each
list that is announced; in 4 KiB, lists within lists announce millions of elements.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from fastun.errors import one_line

Value = TypeVar("Value")

# The key of a tagged struct's tag: tag_field of its class.
TAG: Final = "type"

# Raised for bytes that are not what was expected. RecursionError: for lists nested some thousand
# times.
_FAULTS: Final = (msgspec.MsgspecError, ValueError, RecursionError)


class _Tagged(msgspec.Struct, frozen=True, rename={"tag": TAG}):
    """What is read first of a tagged struct."""

    tag: str


class CodecError(ValueError):
    """Bytes are not one msgpack value of the expected type; the text says why."""


def pack(value: object) -> bytes:
    """Return the msgpack bytes of a struct, or of what msgspec knows by itself."""
    return msgspec.msgpack.encode(value)


def unpack(packed: bytes, expected: type[Value], bytes_max: int) -> Value:
    """Return the one value of type ``expected`` in at most ``bytes_max`` bytes.

    Raises CodecError.
    """
    try:
        return _read(packed, expected, bytes_max)
    except _FAULTS as error:
        raise CodecError(str(error) or type(error).__name__) from None


def unpack_printable(packed: bytes, expected: type[Value], bytes_max: int) -> Value:
    """As `unpack`; every text in it is one printable line, whatever was sent.

    For what a process with fewer rights has sent, and a terminal is to show.
    """
    try:
        value = _read(packed, expected, bytes_max)
        built = msgspec.to_builtins(value, builtin_types=(bytes,))
        return msgspec.convert(_printable(built), expected)
    except _FAULTS as error:
        raise CodecError(str(error) or type(error).__name__) from None


def unpack_tagged(packed: bytes, by_tag: Mapping[str, type[Value]], bytes_max: int) -> Value:
    """Return the one struct in at most ``bytes_max`` bytes; its TAG names its type.

    Twenty times as fast as a union of as many types, which msgspec would analyse each time. Raises
    CodecError.
    """
    try:
        tag = _read(packed, _Tagged, bytes_max).tag
        if tag not in by_tag:
            raise CodecError(f"invalid {TAG} {tag!r:.80}")
        return _read(packed, by_tag[tag], bytes_max)
    except _FAULTS as error:
        raise CodecError(str(error) or type(error).__name__) from None


def _printable(value: object) -> object:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list):
        return [_printable(each) for each in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    return value


def _read(packed: bytes, expected: type[Value], bytes_max: int) -> Value:
    if len(packed) > bytes_max:
        raise CodecError(f"{len(packed)} bytes, at most {bytes_max} allowed")
    return msgspec.msgpack.decode(packed, type=expected)
