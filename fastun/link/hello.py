"""The hello of the plain wire: what each side can do, exchanged before the first frame.

    u16 big-endian length | 0x01 | 3 zero bytes | msgpack map

Both sides send at once and then read the other's; neither answers what it cannot read. What follows
the hello on the stream belongs to the lane, so not a byte more is read here.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Literal

import msgpack
import msgspec

from fastun import __version__
from fastun._native import Mode, Offload, Wire
from fastun.channel import LinkFormat
from fastun.config import Settings

PROTOCOL_VERSION = 1
HELLO_TIMEOUT_S = 5.0

# A hello is some 150 bytes; this leaves room for what later versions add, and bounds what an
# unknown sender can make us hold.
HELLO_BYTES_MAX = 4096

_TYPE = b"\x01\x00\x00\x00"
_PREFIX = struct.Struct(">H")
_MESSAGE_MAX = 65535  # what the u16 length prefix can say
_SIMPLETUN_MESSAGE_MAX = 2000  # the original's receive buffer

OffloadName = Literal["tcp", "udp"]
_OFFERS: dict[Offload, tuple[OffloadName, ...]] = {
    Offload.NONE: (),
    Offload.TCP: ("tcp",),
    Offload.TCP_UDP: ("tcp", "udp"),
}


class HelloError(Exception):
    """The other side's hello cannot be accepted; the text says why, in one line."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What one side can do. Unknown fields are passed over: a newer version may send more."""

    version: int
    software: str
    mode: Literal["tun", "tap"]
    offload: tuple[str, ...]
    message_max: int


def own(settings: Settings, offload_max: Offload) -> Hello:
    """Return what this side says."""
    return Hello(
        version=PROTOCOL_VERSION,
        software=f"fastun {__version__}",
        mode=settings.mode,
        offload=_OFFERS[offload_max],
        message_max=_MESSAGE_MAX,
    )


def encode(hello: Hello) -> bytes:
    """Return the hello as a frame of the stream."""
    body: bytes = _TYPE + msgpack.packb(msgspec.to_builtins(hello))
    return _PREFIX.pack(len(body)) + body


def decode(body: bytes) -> Hello:
    """Return the hello in a frame without its length prefix; HelloError when it is none."""
    if body[: len(_TYPE)] != _TYPE:
        raise HelloError("the peer does not speak the plain wire; give both ends the same --wire")
    try:
        fields = msgpack.unpackb(body[len(_TYPE) :])
        return msgspec.convert(fields, Hello)
    except (msgspec.ValidationError, msgpack.UnpackException, ValueError, RecursionError) as error:
        raise HelloError(f"the peer's hello is malformed: {error}") from None


async def exchange(connection: socket.socket, ours: Hello) -> Hello:
    """Send our hello, return the other side's. Raises HelloError, OSError or TimeoutError."""
    async with asyncio.timeout(HELLO_TIMEOUT_S):
        await asyncio.get_running_loop().sock_sendall(connection, encode(ours))
        (length,) = _PREFIX.unpack(await _receive_exactly(connection, _PREFIX.size))
        if not len(_TYPE) < length <= HELLO_BYTES_MAX:
            raise HelloError(
                "the peer does not speak the plain wire; give both ends the same --wire"
            )
        return decode(await _receive_exactly(connection, length))


async def _receive_exactly(connection: socket.socket, n_bytes: int) -> bytes:
    loop = asyncio.get_running_loop()
    received = b""
    while len(received) < n_bytes:
        piece = await loop.sock_recv(connection, n_bytes - len(received))
        if not piece:
            raise HelloError("the peer closed the connection before its hello")
        received += piece
    return received


def agree(ours: Hello, theirs: Hello) -> tuple[LinkFormat, Offload]:
    """Return what the link carries and what our device may hand out. Raises HelloError."""
    if theirs.version != ours.version:
        raise HelloError(
            f"the peer speaks protocol version {theirs.version}, this side {ours.version}; "
            "run the same version on both ends"
        )
    if theirs.mode != ours.mode:
        raise HelloError(
            f"the peer's mode is {theirs.mode}, this side's {ours.mode}; give both the same --mode"
        )
    if not 1280 <= theirs.message_max <= _MESSAGE_MAX:  # noqa: PLR2004 (IPv6's least MTU)
        raise HelloError(f"the peer takes messages of {theirs.message_max} bytes only")
    # A device that hands out less than ours can be written is no obstacle, so only the peer's offer
    # bounds what we send, and only our own what we take.
    both = set(theirs.offload) & set(ours.offload)
    offload = max(level for level, names in _OFFERS.items() if set(names) <= both)
    link_format = LinkFormat(
        wire=Wire.PLAIN,
        mode=Mode[ours.mode.upper()],
        super_outbound=offload is not Offload.NONE,
        super_inbound=bool(ours.offload),
        message_max=theirs.message_max,
    )
    return link_format, offload


def format_without_peer(settings: Settings) -> LinkFormat:
    """Return what is laid out while no peer has said what it takes; all that simpletun ever is."""
    is_simpletun = settings.wire == "simpletun"
    return LinkFormat(
        wire=Wire.SIMPLETUN if is_simpletun else Wire.PLAIN,
        mode=Mode[settings.mode.upper()],
        super_outbound=False,
        super_inbound=False,
        message_max=_SIMPLETUN_MESSAGE_MAX if is_simpletun else _MESSAGE_MAX,
    )
