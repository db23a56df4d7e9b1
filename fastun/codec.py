"""msgpack, for everything that fastun sends as a map: control messages, hellos, probes, status.

Bytes that others made become a value here and nowhere else. Their length is limited before they are
parsed, and what msgpack makes of them is validated against a type: no partial or unexpected value
comes out.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgpack
import msgspec

Value = TypeVar("Value")

# Raised by msgpack and msgspec for bytes that are not what was expected. RecursionError: for lists
# nested some thousand times.
_FAULTS: Final = (msgspec.ValidationError, msgpack.UnpackException, ValueError, RecursionError)


class CodecError(ValueError):
    """Bytes are not one msgpack value of the expected type; the text says why."""


def pack(value: object) -> bytes:
    """Return the msgpack bytes of a struct, or of what msgpack knows by itself."""
    packed: bytes = msgpack.packb(msgspec.to_builtins(value, builtin_types=(bytes,)))
    return packed


def unpack(packed: bytes, expected: type[Value] | Any, bytes_max: int) -> Value:
    """Return the one value of type ``expected`` in at most ``bytes_max`` bytes.

    ``expected`` is a type or a union of tagged structs. Raises CodecError.
    """
    if len(packed) > bytes_max:
        raise CodecError(f"{len(packed)} bytes, at most {bytes_max} allowed")
    try:  # msgpack allows no text, list or map that is longer than the bytes
        value: Value = msgspec.convert(msgpack.unpackb(packed), expected)
    except _FAULTS as error:
        raise CodecError(str(error) or type(error).__name__) from None
    return value
