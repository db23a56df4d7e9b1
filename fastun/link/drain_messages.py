"""What a gateway that is drained and its clients say to each other, sealed in their session.

    {"drain": 55, "number": 3}             the gateway: leave within so many seconds; 0: stay, the
                                           drain was cancelled
    {"drain_taken": 3, "elsewhere": true}  the client's answer: whether it has somewhere to go

They go to clients whose hello offers it, and are repeated until they are answered. A client leaves
for its own other endpoints and for nothing that the gateway could name.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from fastun import codec
from fastun.link.hello import TYPE

#: A client stays away no longer than this, whatever a gateway asks.
DRAIN_MAX_S: Final = 3600

_BYTES_MAX: Final = 128

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class Drain(msgspec.Struct, frozen=True):
    """From the gateway."""

    drain: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    number: _Number


class DrainTaken(msgspec.Struct, frozen=True):
    """From the client."""

    drain_taken: _Number
    elsewhere: bool


_Kind = TypeVar("_Kind", Drain, DrainTaken)


def encode(message: Drain | DrainTaken) -> bytes:
    """Return it as the content of a control message."""
    return TYPE + codec.pack(message)


def decode(message: bytes, kind: type[_Kind]) -> _Kind | None:
    """Return what a control message says, None where it is about something else."""
    try:
        return codec.unpack(message[len(TYPE) :], kind, _BYTES_MAX)
    except codec.CodecError:
        return None
