"""What a running gateway knows of one peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.doctor.finding import Finding, finding
from fastun.status.peer_report import duration, remote_of

if TYPE_CHECKING:
    from fastun.status.reply import PeerStatus, Status


def of_peer(gateway: Status, name: str, now: float) -> Finding:
    """Say whether the gateway is connected to the peer, since when, and if not, why."""
    peer = next((each for each in gateway.peers if each.name == name), None)
    if peer is None:
        message = f"the gateway of {gateway.interface} does not know {name}"
        return finding("FAIL", message, "restart it: its configuration has changed")
    handshake = "no handshake yet"
    if peer.last_handshake_unix_seconds is not None:
        ago = duration(now - peer.last_handshake_unix_seconds)
        handshake = f"last handshake {ago} ago"
    if peer.up:
        transport = peer.link.transport if peer.link else "?"
        message = f"{gateway.interface} is connected to {name} over {transport}"
        return finding("ok", f"{message}, {remote_of(peer)}; {handshake}")
    message = f"{gateway.interface} is not connected to {name}; {handshake}"
    return finding("FAIL", message + _last_error(peer, now), "see the lines below, and its log")


def _last_error(peer: PeerStatus, now: float) -> str:
    error = peer.last_error
    return "" if error is None else f"; {duration(now - error.unix_seconds)} ago: {error.text}"
