"""How connections of a wire begin: which handshaker, and what each peer is sent as its hello."""

from __future__ import annotations

import secrets

from msgspec import structs

from fastun.config.settings import Settings
from fastun.gateway.peer_sync import PeerSync
from fastun.link import hello
from fastun.link.key_exchange import KeyExchange
from fastun.link.peer_lanes import has_one_lane
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.link.stream.handshake import (
    Handshaker,
    PlainHandshaker,
    SealedHandshaker,
    SilentHandshaker,
)
from fastun.native import Offload
from fastun.session.timestamps import Timestamps
from fastun.state_file import StateFiles


def handshaker_for(
    settings: Settings,
    offload_max: Offload,
    peers: PeerSlots,
    sync: PeerSync,
    files: StateFiles | None = None,
) -> Handshaker:
    """Return the handshaker of the settings' wire.

    ``offload_max``: the super-packets that the device takes, for the hello. ``files``: those of the
    state directory.
    """
    if settings.wire == "simpletun":
        return SilentHandshaker(peers, hello.format_without_peer(settings))
    if settings.wire == "plain":
        return PlainHandshaker(peers, hello.own(settings, offload_max))

    bundle = secrets.randbits(62) if settings.role == "connect" else 0

    def hello_for(slotted: SlottedPeer) -> hello.Hello:
        push = sync.push_to(slotted) if settings.role == "serve" else None
        ours = hello.own(sync.settings, offload_max, push)
        n_lanes = 1 if has_one_lane(slotted.peer.terms) else settings.lanes
        return structs.replace(ours, lanes=n_lanes, bundle=bundle)

    plain = hello.format_without_peer(settings) if settings.mode == "tun" else None
    timestamps = Timestamps(files, sync.own.public)
    exchange = KeyExchange(peers, sync.own, hello_for, timestamps)
    return SealedHandshaker(exchange, plain)
