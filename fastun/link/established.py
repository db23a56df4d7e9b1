"""What a handshake on a stream establishes: the peer, the format, and the keys of a sealed wire."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastun.lane.messages import LinkFormat
from fastun.link.hello import Hello
from fastun.link.peer_slots import SlottedPeer
from fastun.native import Aead
from fastun.session.transport import SessionKeys


@dataclass
class Established:
    """The peer, and what was agreed on. ``keys`` have sealed one message.

    The link keeps this object, but not its first keys: they are handed over once (take_keys).
    """

    slotted: SlottedPeer
    link_format: LinkFormat
    software: str
    hello: Hello | None = None
    keys: SessionKeys | None = field(default=None, repr=False)
    n_opened: int = 0  # counters of the peer's that are used up
    aead: Aead = Aead.CHACHA20_POLY1305
    number: int = 0  # of the connection, among those of its bundle
    bundle: int = 0

    def take_keys(self) -> SessionKeys:
        """Return the keys of a sealed handshake, and forget them."""
        keys, self.keys = self.keys, None
        assert keys is not None  # noqa: S101 (a sealed handshake has them)
        return keys
