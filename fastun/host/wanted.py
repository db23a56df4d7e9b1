"""What a tunnel wants of its host, and what became of it: plain data, both ways.

Whoever wants something changed makes a `Wanted` and hands it to the device as a whole, at the start
as much as for a push, another outer address or a repair; the device compares it with what is there
and answers with an `Applied` (reconcile.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from fastun.config.forward import Forward
    from fastun.host.routing.outer_addresses import OuterAddress
    from fastun.peers.peer import Address, Network

Kind = Literal[
    "address",
    "route",
    "MTU",
    "routing rules",
    "setting",
    "link",
    "nft table",
    "forwarding",
    "kill switch",
    "bridge",
    "network",
]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The state that the device should have; MTUs in bytes, a pushed one of 0 is none.

    `addresses`, `routes` and `mtu` are configured, `behind` are networks of the directory's peers;
    what is pushed is subject to stricter checks.
    `bridge` is what it is to be a port of, "" for nothing in particular.
    `outer` are the addresses that the tunnel's own packets go to. `forward` is what this host
    forwards from and to the device, None for nothing.
    `takes_all`, `pushed_all`: all packets go through the tunnel, whatever `routes` say.
    """

    mtu: int
    addresses: tuple[Address, ...] = ()
    routes: tuple[Network, ...] = ()
    behind: tuple[Network, ...] = ()
    pushed_mtu: int = 0
    pushed_addresses: tuple[Address, ...] = ()
    pushed_routes: tuple[Network, ...] = ()
    takes_all: bool = False
    pushed_all: bool = False
    bridge: str = ""
    outer: frozenset[OuterAddress] = msgspec.field(default_factory=frozenset)
    forward: Forward | None = None


class Refusal(msgspec.Struct, frozen=True):
    """One item that the device does not have, why, and what to do about it."""

    kind: Kind
    item: str
    reason: str
    advice: str = ""
    is_pushed: bool = False

    @property
    def key(self) -> tuple[Kind, str]:
        """What it is about, as a `Change` says it."""
        return self.kind, self.item


class Change(msgspec.Struct, frozen=True):
    """Something that was made, changed or removed: ``10.7.0.0/16`` of the kind ``route``."""

    kind: Kind
    item: str

    @property
    def key(self) -> tuple[Kind, str]:
        """What it is about, as a `Refusal` says it."""
        return self.kind, self.item


class Applied(msgspec.Struct, frozen=True):
    """What became of a `Wanted`; `mtu` is what the interface has now.

    `made` is what was not there, or not as wanted: after a repair, what others had removed.
    """

    mtu: int
    refused: tuple[Refusal, ...] = ()
    made: tuple[Change, ...] = ()
