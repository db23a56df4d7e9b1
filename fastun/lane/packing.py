"""Messages between gateway and worker as bytes."""

from __future__ import annotations

from typing import Final

from fastun import codec
from fastun.errors import RuntimeFailure
from fastun.lane.messages import MESSAGE_BYTES_MAX, Message, ToGateway, ToWorker

_BY_TAG: Final[dict[str, type[Message]]] = {
    str(kind.__struct_config__.tag): kind
    for base in (ToWorker, ToGateway)
    for kind in base.__subclasses__()
}


def pack(message: Message) -> bytes:
    """Return a message's bytes."""
    return codec.pack(message)


def unpack(packed: bytes) -> Message:
    """Return the message in these bytes. Raises RuntimeFailure when it is invalid."""
    try:
        return codec.unpack_tagged(packed, _BY_TAG, MESSAGE_BYTES_MAX)
    except codec.CodecError as error:
        raise RuntimeFailure(f"control channel: {error}") from error
