"""The hello: what each side can do, exchanged before the first frame.

    type 0x01, 3 zero bytes, msgpack map

On the plain wire it is the first frame of the stream; on the wireguard wire it is the content of
the first data message under the new keys, which it confirms. A serving side adds what it pushes,
unless the peer has said that it takes no pushes. A hello that cannot be read is not answered.

Each ``Ability`` is a key of the map. A peer ignores keys that it does not know, and an older peer
says fewer: what it does not say is what it did before the ability existed (``unsaid``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Final, Self

import msgspec

from fastun import __version__, codec, native, vocabulary
from fastun.config import push as push_form
from fastun.config.push import Push
from fastun.config.settings import Settings
from fastun.errors import one_line
from fastun.lane.messages import LinkFormat
from fastun.native import LANES_MAX, Aead, Mode, Offload, Wire, has_aes_instructions

PROTOCOL_VERSION = 1
HELLO_TIMEOUT_S = 5.0
HELLO_BYTES_MAX = push_form.HELLO_BYTES_MAX

# What a peer says of itself ends up in the log, in labels and on terminals; a name with a version
# has room in it. A complaint may show a text of the peer's, and is cut as well.
SOFTWARE_CHARS_MAX = 64
_COMPLAINT_CHARS_MAX = 200

TYPE = native.CONTROL_TYPE
SEALED_MESSAGE_MAX = native.SEALED_CONTENT_BYTES_MAX

_Index = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]

_OFFERS: dict[Offload, tuple[str, ...]] = {
    Offload.NONE: (),
    Offload.TCP: ("tcp",),
    Offload.TCP_UDP: ("tcp", "udp"),
}
# The software of a peer that has not said hello.
PLAIN_WIREGUARD = "WireGuard"

AES = "aes-256-gcm"
CHACHA = "chacha20-poly1305"


class HelloError(Exception):
    """The other side's hello cannot be accepted; the text says why, in one line."""


class HungUpError(HelloError):
    """The peer closed the connection where it owed an answer."""


class Ability(StrEnum):
    """What a side can do or not: its key, whether this side has it, and what an older peer has.

    A new ability is a line here, and what is done for a peer that has it.
    """

    is_ours: Callable[[Settings], bool]
    unsaid: bool

    def __new__(cls, key: str, is_ours: Callable[[Settings], bool], unsaid: bool) -> Self:
        """Make the ability that is said under ``key``."""
        ability = str.__new__(cls, key)
        ability._value_ = key
        ability.is_ours = is_ours
        ability.unsaid = unsaid
        return ability

    # It dials, and so decides by which of several lanes a flow goes, on UDP (datagram/ways.py).
    DIALS = "dials", lambda settings: settings.role == "connect", False
    # It answers probes of the path's MTU, on UDP (datagram/probe.py).
    ANSWERS_PROBES = "answers_probes", lambda settings: settings.wire == "wireguard", False
    # It joins halves of Ethernet frames that are too long for the path, on UDP.
    JOINS_PIECES = (
        "joins_pieces",
        lambda settings: settings.mode == "tap" and settings.wire == "wireguard",
        False,
    )
    # It joins pieces of super-packets, of the kinds in ``offload``, on UDP.
    JOINS_SUPER_PACKETS = (
        "joins_super_packets",
        lambda settings: settings.wire == "wireguard" and settings.data_path.gso,
        False,
    )
    # It takes what a server pushes. Before this was said, a server pushed to every peer.
    TAKES_PUSH = (
        "takes_push",
        lambda settings: settings.role == "connect" and bool(settings.accept),
        True,
    )
    # It takes a push in the middle of a session, too (push_updates.py).
    TAKES_PUSH_UPDATES = (
        "takes_push_updates",
        lambda settings: (
            settings.role == "connect" and settings.wire == "wireguard" and bool(settings.accept)
        ),
        False,
    )
    # It goes to another of its endpoints when a gateway that is drained asks it (leaving.py).
    GOES_ELSEWHERE = (
        "goes_elsewhere",
        lambda settings: settings.role == "connect" and settings.wire == "wireguard",
        False,
    )


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What one side can do. Unknown fields are ignored: a newer version may send more."""

    version: int
    software: str
    mode: vocabulary.Mode
    offload: tuple[str, ...]
    message_max: int
    aeads: tuple[str, ...] = ()
    # On streams: how many connections it may have to this peer, which one this is, and of which
    # bundle (peer_lanes.py). Of an older peer's there is one.
    lanes: Annotated[int, msgspec.Meta(ge=1, le=255)] = 1
    lane: Annotated[int, msgspec.Meta(ge=0, le=254)] = 0
    bundle: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    # On UDP: by which indices this side opens in further lanes (datagram/ways.py).
    ways: Annotated[tuple[_Index, ...], msgspec.Meta(max_length=LANES_MAX - 1)] = ()
    abilities: frozenset[Ability] = frozenset(each for each in Ability if each.unsaid)
    push: Push | None = None


# Of those that came later: a server's hello, which pushes, has no bytes to spare for "no".
_SAID_IF_HAD: Final = frozenset({Ability.DIALS, Ability.GOES_ELSEWHERE})

# In a hello: the two keys and what is not a way's, and each way at its longest.
_WAYS_BYTES, _WAY_BYTES = 24, 5

_ONE_LANE = {"lanes": 1, "lane": 0, "bundle": 0}


def on_datagrams(ours: Hello, indices: tuple[int, ...]) -> Hello:
    """Return our hello as it goes to a peer on UDP, with as many ways as we may have to it.

    There is room for all but behind the longest pushes: it is one datagram.
    """
    alone = msgspec.structs.replace(ours, **_ONE_LANE, ways=())
    if ours.lanes == 1 or not indices:
        return alone
    room = push_form.DATAGRAM_HELLO_BYTES_MAX - len(encode(alone)) - _WAYS_BYTES
    ways = indices[: max(0, min(ours.lanes - 1, room // _WAY_BYTES))]
    return msgspec.structs.replace(alone, bundle=ours.bundle if ways else 0, ways=ways)


def own(settings: Settings, offload_max: Offload, push: Push | None = None) -> Hello:
    """Return what this side says."""
    is_sealed = settings.wire == "wireguard"
    return Hello(
        version=PROTOCOL_VERSION,
        software=f"fastun {__version__}",
        mode=settings.mode,
        offload=_OFFERS[offload_max],
        message_max=SEALED_MESSAGE_MAX if is_sealed else native.MESSAGE_BYTES_MAX,
        aeads=own_aeads() if is_sealed else (),
        abilities=frozenset(ability for ability in Ability if ability.is_ours(settings)),
        push=push,
    )


def own_aeads() -> tuple[str, ...]:
    """Return what this processor seals and opens well, here (a hello) and in the workers."""
    return (CHACHA, AES) if has_aes_instructions() else (CHACHA,)


def for_peer(ours: Hello, theirs: Hello | None) -> Hello:
    """Return our hello as it goes to a peer, whose own has come (None: not yet)."""
    if theirs is None or Ability.TAKES_PUSH in theirs.abilities:
        return ours
    return msgspec.structs.replace(ours, push=None)


def encode(hello: Hello) -> bytes:
    """Return the hello as a message."""
    fields: dict[str, Any] = msgspec.to_builtins(hello)
    del fields["abilities"]
    for key, unsaid in _ONE_LANE.items():  # a side that has one lane says what older ones say
        if fields[key] == unsaid:
            del fields[key]
    if not hello.ways:
        del fields["ways"]
    said = {
        str(ability): ability in hello.abilities
        for ability in Ability
        if ability in hello.abilities or ability not in _SAID_IF_HAD
    }
    return TYPE + codec.pack({**fields, **said})


def decode(message: bytes) -> Hello:
    """Return the hello in a message; HelloError when it is invalid.

    `software` is printable, of SOFTWARE_CHARS_MAX characters at most.
    """
    if message[: len(TYPE)] != TYPE:
        raise HelloError("the peer does not speak this wire; give both ends the same --wire")
    if len(message) > HELLO_BYTES_MAX:
        raise HelloError(f"the peer's hello has {len(message)} bytes")
    try:
        fields = codec.unpack(message[len(TYPE) :], dict[str, Any], HELLO_BYTES_MAX)
        hello = msgspec.convert({**fields, "abilities": _abilities(fields)}, Hello)
        if hello.push is not None:
            push_form.check(hello.push)
    except (msgspec.ValidationError, ValueError) as error:
        why = str(error)[:_COMPLAINT_CHARS_MAX]  # the peer's texts are in it as reprs
        raise HelloError(f"the peer's hello is malformed: {why}") from None
    return msgspec.structs.replace(hello, software=one_line(hello.software)[:SOFTWARE_CHARS_MAX])


def _abilities(fields: dict[str, Any]) -> list[Ability]:
    """Return what a peer can do that has said ``fields``. Raises ValueError."""
    said = {ability: fields.get(ability, ability.unsaid) for ability in Ability}
    for ability, value in said.items():
        if not isinstance(value, bool):
            raise ValueError(f"{ability}: expected true or false")  # noqa: TRY004 (as msgspec's)
    return [ability for ability, value in said.items() if value]


def native_mode(settings: Settings) -> Mode:
    """Return the device's mode as the C library names it."""
    return Mode[settings.mode.upper()]


def agree(ours: Hello, theirs: Hello, wire: Wire) -> tuple[LinkFormat, Aead]:
    """Return what a stream carries, and what seals it; HelloError where no link can be."""
    if theirs.version != ours.version:
        raise HelloError(
            f"the peer speaks protocol version {theirs.version}, this side {ours.version}; "
            "run the same version on both ends"
        )
    if theirs.mode != ours.mode:
        raise HelloError(
            f"the peer's mode is {theirs.mode}, this side's {ours.mode}; give both the same --mode"
        )
    if not 1280 <= theirs.message_max <= native.MESSAGE_BYTES_MAX:  # noqa: PLR2004 (IPv6's least MTU)
        raise HelloError(f"the peer accepts messages of at most {theirs.message_max} bytes")
    has_aes = AES in theirs.aeads and AES in ours.aeads
    link_format = LinkFormat(
        wire=wire,
        mode=Mode[ours.mode.upper()],
        super_outbound="tcp" in theirs.offload,
        super_inbound=bool(ours.offload),
        message_max=min(theirs.message_max, ours.message_max),
        splits_udp="udp" not in theirs.offload,
    )
    return link_format, Aead.AES_256_GCM if has_aes else Aead.CHACHA20_POLY1305


def format_without_peer(settings: Settings) -> LinkFormat:
    """Return what is sent while no peer has said what it takes; on simpletun always."""
    is_simpletun = settings.wire == "simpletun"
    return LinkFormat(
        wire=Wire[settings.wire.upper()],
        mode=native_mode(settings),
        super_outbound=False,
        super_inbound=False,
        message_max=native.SIMPLETUN_BYTES_MAX if is_simpletun else native.MESSAGE_BYTES_MAX,
    )


@functools.lru_cache(maxsize=8)  # all links have the one of now
def format_of_datagrams(mode: Mode, mtu: int) -> LinkFormat:
    """Return what goes to a peer on UDP, behind a device of that MTU."""
    return LinkFormat(
        wire=Wire.WIREGUARD,
        mode=mode,
        super_outbound=False,
        super_inbound=False,
        message_max=SEALED_MESSAGE_MAX,
        is_datagram=True,
        mtu=mtu,
    )
