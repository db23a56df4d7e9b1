"""Messages between gateway and worker as bytes."""

from __future__ import annotations

import contextlib
from typing import Final

from fastun import codec
from fastun.errors import RuntimeFailure
from fastun.lane import endpoint_messages, heartbeat, ways  # noqa: F401 (messages of their own)
from fastun.lane.messages import MESSAGE_BYTES_MAX, Message, ToGateway, ToWorker

_BY_TAG: Final[dict[str, type[Message]]] = {
    str(kind.__struct_config__.tag): kind
    for base in (ToWorker, ToGateway)
    for kind in base.__subclasses__()
}


def prepare() -> None:
    """Have msgspec analyse all messages, which takes 10 ms at the first one of each type."""
    for kind in _BY_TAG.values():
        with contextlib.suppress(codec.CodecError):
            codec.unpack_tagged(codec.pack({codec.TAG: kind.__struct_config__.tag}), _BY_TAG, 64)


def pack(message: Message) -> bytes:
    """Return a message's bytes."""
    return codec.pack(message)


def unpack(packed: bytes) -> Message:
    """Return the message in these bytes. Raises RuntimeFailure when it is invalid."""
    try:
        return codec.unpack_tagged(packed, _BY_TAG, MESSAGE_BYTES_MAX)
    except codec.CodecError as error:
        raise RuntimeFailure(f"control channel: {error}") from error
