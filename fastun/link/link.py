"""A link: one connection, or one peer's datagrams, in one lane."""

from __future__ import annotations

import socket
import time

import msgspec

from fastun.lane.lane import Lane
from fastun.lane.messages import LinkFormat
from fastun.link.ended import Ended
from fastun.link.hello import Ability
from fastun.link.slotted_peer import SlottedPeer
from fastun.native import UdpAddress
from fastun.vocabulary import Transport


class Link(msgspec.Struct):
    """One connection, or one peer's datagrams, that the lane carries.

    ``path_mtu`` is that of the path outside, in bytes; 0 on a stream.
    """

    id: int
    slotted: SlottedPeer
    connection: socket.socket | None  # None on UDP
    remote: str
    link_format: LinkFormat
    peer_software: str
    lane: Lane
    abilities: frozenset[Ability] = frozenset()  # of the peer's hello, if it has said one
    path_mtu: int = 0
    bundle: int = 0  # of the connections that were made together; 0: it is alone
    n_lanes: int = 1  # connections that the peer would have
    is_resting: bool = False  # nothing goes by it, while others carry the peer (datagram/ways.py)
    looked_at: UdpAddress | None = None  # by endpoint_watch.py
    sealed_for: int | None = None  # on UDP: the index of what goes by it
    is_new_path: bool = True  # its path MTU has not been sent to the tun-reader
    since: float = msgspec.field(default_factory=time.time)  # Unix time
    ended: Ended = msgspec.field(default_factory=Ended)
    end_reason: str = ""  # also empty where UDP has taken over

    @property
    def slot(self) -> int:
        """The slot of its peer."""
        return self.slotted.slot

    @property
    def peer_name(self) -> str:
        """The name of its peer."""
        return self.slotted.peer.name

    @property
    def transport(self) -> Transport:
        """What carries it."""
        return "udp" if self.connection is None else "tcp"
