"""What the gateway asks for because it may not make, open or start it itself, and the answers.

As messages.py, which is about this host.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from fastun.host.process.messages import Message, Networks, Port, Text
from fastun.host.sockets.syn_filter import IPV4_SOURCE_BYTES, IPV6_SOURCE_BYTES, SOURCES_MAX
from fastun.vocabulary import Transport

#: Its own files in the state directory, each named after a key.
FileName = Annotated[str, Meta(pattern=r"^(?:endpoints|initiations)-[0-9a-f]{16}\Z")]
FILE_BYTES_MAX: Final = 1 << 20

PORTS_MAX: Final = 64
PUBLIC_KEY_BYTES: Final = 32

Zone = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Ports = Annotated[tuple[Port, ...], Meta(max_length=PORTS_MAX)]
Family = Literal[4, 6]
Sources = Annotated[
    tuple[Annotated[bytes, Meta(min_length=IPV4_SOURCE_BYTES, max_length=IPV6_SOURCE_BYTES)], ...],
    Meta(max_length=SOURCES_MAX),
]


# -- asked ------------------------------------------------------------------------------------


class MakeListener(Message, frozen=True):
    """`SocketMaker.listener`: Made, with the socket."""

    host: Text
    port: Port
    zone: Zone = 0
    purpose: Literal["links", "metrics"] = "links"
    is_beside: bool = False


class MakeDatagrams(Message, frozen=True):
    """`SocketMaker.datagrams`: Made, with the socket."""

    host: Text
    port: Port
    zone: Zone = 0
    is_beside: bool = False


class TurnAway(Message, frozen=True):
    """`SocketMaker.turn_away`, of the gateway's listening socket with this number."""

    descriptor: Annotated[int, Meta(ge=0, le=0x7FFFFFFF)]
    sources: Sources


class MakeOutgoing(Message, frozen=True):
    """`SocketMaker.outgoing`: Made, with the socket."""

    family: Family
    kind: Transport


class MakeIcmp(Message, frozen=True):
    """`SocketMaker.icmp`: Made, with the socket."""

    kind: Literal["hints", "unreachable"]
    family: Family
    ports: Ports = ()


class MakeChannel(Message, frozen=True):
    """`SocketMaker.channel`: Made, with both ends."""


class MakeControl(Message, frozen=True):
    """The control socket: Made, with one that listens. The host process removes it at the end."""


class RemoveControl(Message, frozen=True):
    """Remove the control socket."""


class StartTemplate(Message, frozen=True):
    """A template of workers, a child of the gateway: Started, with its channel."""


class StartFleet(Message, frozen=True):
    """The process of the gateway's fleet: Started, with its channel."""


class ReadFile(Message, frozen=True):
    """`StateFiles.read`: FileRead."""

    name: FileName
    bytes_max: Annotated[int, Meta(ge=0, le=FILE_BYTES_MAX)]


class ReplaceFile(Message, frozen=True):
    """`StateFiles.replace`."""

    name: FileName
    content: Annotated[bytes, Meta(max_length=FILE_BYTES_MAX)]
    is_durable: bool = False


class CheckServerKey(Message, frozen=True):
    """`PeersSource.check_key`, of this public key; empty: there is no private key yet."""

    public: Annotated[bytes, Meta(max_length=PUBLIC_KEY_BYTES)]


class OpenPeers(Message, frozen=True):
    """Open the peer directory, or announce this gateway again to the commands that add peers.

    ``routes`` are those that it pushes.
    """

    routes: Networks = ()


class PeersVersion(Message, frozen=True):
    """`PeerDirectory.version`: Version."""


class ReadChanges(Message, frozen=True):
    """`PeerDirectory.changes_since`: ChangesRead."""

    since: int


class ReadPeers(Message, frozen=True):
    """`PeerDirectory.peers`: PeersRead."""


class ReadUsage(Message, frozen=True):
    """`PeerDirectory.usage`: UsageRead."""


Month = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}\Z")]
Used = tuple[Month, Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]]


class RememberUsage(Message, frozen=True):
    """`PeerDirectory.remember_usage`."""

    usage: dict[Annotated[str, Meta(max_length=64)], Used]


class ClosePeers(Message, frozen=True):
    """Let the peer directory go."""


# -- answered ---------------------------------------------------------------------------------


class Made(Message, frozen=True):
    """What was asked for, as descriptors."""


class Started(Message, frozen=True):
    """A process."""

    pid: int


class FileRead(Message, frozen=True):
    """What is in a file."""

    content: bytes


class Version(Message, frozen=True):
    """That of the peer directory."""

    version: int


class PeersRead(Message, frozen=True):
    """Peers, as pickle has them, by the process that may read them."""

    peers: bytes


class ChangesRead(Message, frozen=True):
    """Changes, as above; empty where all is to be read."""

    changes: bytes


class UsageRead(Message, frozen=True):
    """What peers have used of their quotas, by name."""

    usage: dict[str, tuple[str, int]]


ANSWERS: Final = (Made, Started, FileRead, Version, PeersRead, ChangesRead, UsageRead)
