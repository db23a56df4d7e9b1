"""msgpack, for everything that fastun sends as a map: control messages, hellos, probes, status.

Bytes that others made become a value here and nowhere else. Their length is limited before they are
parsed, and what msgpack makes of them is validated against a type: no partial or unexpected value
comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgpack
import msgspec

from fastun.errors import one_line

Value = TypeVar("Value")

# The key of a tagged struct's tag: tag_field of its class.
TAG: Final = "type"

# Raised by msgpack and msgspec for bytes that are not what was expected. RecursionError: for lists
# nested some thousand times.
_FAULTS: Final = (msgspec.ValidationError, msgpack.UnpackException, ValueError, RecursionError)


class CodecError(ValueError):
    """Bytes are not one msgpack value of the expected type; the text says why."""


def pack(value: object) -> bytes:
    """Return the msgpack bytes of a struct, or of what msgpack knows by itself."""
    packed: bytes = msgpack.packb(msgspec.to_builtins(value, builtin_types=(bytes,)))
    return packed


def unpack(packed: bytes, expected: type[Value], bytes_max: int) -> Value:
    """Return the one value of type ``expected`` in at most ``bytes_max`` bytes.

    Raises CodecError.
    """
    try:
        return msgspec.convert(_parsed(packed, bytes_max), expected)
    except _FAULTS as error:
        raise CodecError(str(error) or type(error).__name__) from None


def unpack_printable(packed: bytes, expected: type[Value], bytes_max: int) -> Value:
    """As `unpack`; every text in it is one printable line, whatever was sent.

    For what a process with fewer rights has sent, and a terminal is to show.
    """
    try:
        return msgspec.convert(_printable(_parsed(packed, bytes_max)), expected)
    except _FAULTS as error:
        raise CodecError(str(error) or type(error).__name__) from None


def unpack_tagged(packed: bytes, by_tag: Mapping[str, type[Value]], bytes_max: int) -> Value:
    """Return the one struct in at most ``bytes_max`` bytes; its TAG names its type.

    Twenty times as fast as a union of as many types, which msgspec would analyse each time. Raises
    CodecError.
    """
    try:
        fields = _parsed(packed, bytes_max)
        tag = fields.get(TAG) if isinstance(fields, dict) else None
        if not isinstance(tag, str) or tag not in by_tag:
            raise CodecError(f"invalid {TAG} {tag!r:.80}")
        return msgspec.convert(fields, by_tag[tag])
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


def _parsed(packed: bytes, bytes_max: int) -> object:
    if len(packed) > bytes_max:
        raise CodecError(f"{len(packed)} bytes, at most {bytes_max} allowed")
    return msgpack.unpackb(packed)  # allows no text, list or map that is longer than the bytes
