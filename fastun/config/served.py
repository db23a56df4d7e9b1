"""What a gateway that serves is to commands that add peers, and what all its peers are pushed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastun.config import push as push_form
from fastun.config.push import Push
from fastun.peers.peer import Server

if TYPE_CHECKING:
    from fastun.config.settings import ServeSettings


def server_of(settings: ServeSettings, public_key: bytes) -> Server:
    """Return what `serve` tells its peer directory when it starts (remember_server)."""
    return Server(
        interface=settings.interface,
        run_dir=str(settings.run_dir.absolute()),
        mode=settings.mode,
        addresses=settings.addresses,
        public_key=public_key,
        listen=settings.listen,
        routes=settings.push.routes,
        peers=tuple(replace(peer, preshared_key=None) for peer in settings.peers),
        room_bytes=push_form.left_bytes(pushed_to_all(settings), settings.listen),
        dns=settings.push.dns,
        default=settings.push.default,
    )


def pushed_to_all(settings: ServeSettings) -> Push:
    """Return what every peer is pushed."""
    return Push(
        routes=push_form.routes_of(settings.addresses, settings.push.routes),
        dns=settings.push.dns,
        mtu=settings.mtu,
        keepalive=settings.push.keepalive_s,
        default=settings.push.default,
    )
