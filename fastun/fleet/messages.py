"""What a gateway and the process of its fleet say to each other, a message a datagram.

Both are of one fastun, so there are no versions. Each end checks what it receives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from fastun import codec
from fastun.session import tai64n

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

MESSAGE_BYTES_MAX: Final = 32 << 10

#: Of peers that were left out, so many are named.
NAMED_MAX: Final = 8

#: Of one message.
PEERS_MAX: Final = 256

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Timestamp = Annotated[bytes, Meta(min_length=12, max_length=12)]
Text = Annotated[str, Meta(max_length=1024)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field=codec.TAG):
    """Any of them; its tag is the name of its class."""


class Place(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A peer, and the timestamp of the initiation by which it came; whether it is there now.

    ``over`` is the claim of this gateway that theirs has won over; NEVER where it had none.
    """

    public_key: Key
    initiated: Timestamp
    is_there: bool = True
    over: Timestamp = tai64n.NEVER


Places = Annotated[tuple[Place, ...], Meta(max_length=PEERS_MAX)]

# -- by the process -----------------------------------------------------------------------------


class Now(Message, frozen=True):
    """How the directory is.

    ``error`` says why its changes do not reach this host, empty where they do. ``looked`` is when
    it was last read, Unix time, 0 for never. ``left_out`` peers break a rule, of which some
    are in ``why_left_out``.
    """

    error: Text = ""
    looked: float = 0.0
    n_peers: Count = 0
    n_looks: Count = 0
    n_changes: Count = 0
    n_failures: Count = 0
    left_out: Count = 0
    why_left_out: Annotated[tuple[Text, ...], Meta(max_length=NAMED_MAX)] = ()


class Confined(Message, frozen=True):
    """What the process has given up, as native.Confined: it is the first that it says."""

    user: Count = 0
    landlock: Count = 0
    has_filter: bool = False
    lacks: Annotated[tuple[Text, ...], Meta(max_length=NAMED_MAX)] = ()


class Ending(Message, frozen=True):
    """The process ends: files of libpq's are others than it may read. A new one is to begin."""


class Changed(Message, frozen=True):
    """The copy has other peers than before."""


class Elsewhere(Message, frozen=True):
    """Peers that have been at other gateways, or are there."""

    peers: Places = ()


# -- by the gateway -----------------------------------------------------------------------------


class Claims(Message, frozen=True):
    """Peers that have a session here, confirmed; and the keys of those that have left."""

    here: Places = ()
    gone: Annotated[tuple[Key, ...], Meta(max_length=PEERS_MAX)] = ()


OF_PROCESS: Final = (Confined, Now, Changed, Elsewhere, Ending)
OF_GATEWAY: Final = (Claims,)


def receive(channel: socket.socket, kinds: Sequence[type[Message]]) -> Message | None:
    """Return what has come, one of these kinds; None at the end.

    Raises CodecError, and OSError: BlockingIOError where nothing has.
    """
    content = channel.recv(MESSAGE_BYTES_MAX + 1)
    if not content:
        return None
    by_tag: dict[str, type[Message]] = {kind.__name__: kind for kind in kinds}
    return codec.unpack_tagged(content, by_tag, MESSAGE_BYTES_MAX)


def send(channel: socket.socket, message: Message) -> None:
    """Send one. Raises OSError: BlockingIOError where the other end does not read."""
    channel.send(codec.pack(message))
