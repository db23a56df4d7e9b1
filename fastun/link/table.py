"""The links that the lane carries, by peer slot.

One place decides what the workers know of a link: ``attach`` tells them, ``end`` takes it back and
closes the connection, ``tell_worker`` says it again to a worker that was replaced. The kernel may
hand out only super-packets that every peer can take, so the device's offload follows the links.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass, field

from fastun import log
from fastun._native import Offload, Wire
from fastun.channel import AttachLink, DetachLink, LinkFormat
from fastun.device import Device
from fastun.lane import Lane
from fastun.link.greeting import Greeted

LINK_ROLES = ("link-reader", "link-writer")


@dataclass
class Link:
    """One connection that the lane carries."""

    id: int
    slot: int
    peer_name: str
    connection: socket.socket
    remote: str
    link_format: LinkFormat
    offload: Offload
    peer_software: str
    since: float = field(default_factory=time.time)  # Unix time
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class LinkTable:
    """All links. Changed on the event loop only; reading ``by_slot`` is safe from any thread."""

    def __init__(self, lane: Lane, device: Device, default_format: LinkFormat) -> None:
        """Begin without links; unsealed wires lay out ``default_format`` while there is none."""
        self.by_slot: dict[int, Link] = {}
        self.n_established = 0
        self.n_reconnects = 0  # of peers that had a link before
        self._names_seen: set[str] = set()
        self._lane = lane
        self._device = device
        self._default_format = default_format
        self._is_sealed = default_format.wire == Wire.WIREGUARD
        self._offload = Offload.NONE
        self._log = log.get("link")

    def attach(self, greeted: Greeted, connection: socket.socket, remote: str) -> Link:
        """Carry a connection, in place of the peer's last one; the table owns it now."""
        slot, peer_name = greeted.member.slot, greeted.member.peer.name
        self.end(slot, "the peer has connected anew")
        self.n_established += 1
        self.n_reconnects += peer_name in self._names_seen
        self._names_seen.add(peer_name)
        link = Link(
            id=self.n_established,
            slot=slot,
            peer_name=peer_name,
            connection=connection,
            remote=remote,
            link_format=greeted.link_format,
            offload=greeted.offload,
            peer_software=greeted.software,
        )
        self.by_slot[slot] = link
        # Less before the tun-reader learns the new format, more only after: what it reads in
        # between is never more than the peer takes.
        wanted = min(other.offload for other in self.by_slot.values())
        self._set_offload(min(wanted, self._offload))
        message = AttachLink(slot, link.id, greeted.link_format)
        self._lane.send("tun-reader", message)
        for role in LINK_ROLES:
            self._lane.send(role, message, connection.fileno())
        self._set_offload(wanted)
        self._log.info(
            "up",
            peer=peer_name,
            remote=remote,
            software=greeted.software,
            super_packets=greeted.offload.name.lower(),
        )
        return link

    def end(self, slot: int, reason: str, link_id: int | None = None) -> None:
        """End the peer's link, if it has one (and it is ``link_id``, where that is given)."""
        link = self.by_slot.get(slot)
        if link is None or link_id not in (None, link.id):
            return
        del self.by_slot[slot]
        for role in LINK_ROLES:
            self._lane.send(role, DetachLink(slot))
        if self._is_sealed:
            self._lane.send("tun-reader", DetachLink(slot))
        # The workers hold duplicates of the descriptor; this ends the stream for all of them.
        with contextlib.suppress(OSError):
            link.connection.shutdown(socket.SHUT_RDWR)
        link.connection.close()
        link.ended.set()
        self._log.info("down", peer=link.peer_name, remote=link.remote, reason=reason)

    def end_all(self, reason: str) -> None:
        """End every link."""
        for slot in list(self.by_slot):
            self.end(slot, reason)

    def tell_worker(self, role: str) -> None:
        """Say to a fresh worker what its predecessor knew of the links.

        On a sealed wire there is nothing to say: the predecessor's death has ended the links.
        """
        if role == "tun-writer" or self._is_sealed:
            return
        link = self.by_slot.get(0)
        if role == "tun-reader":
            link_format = self._default_format if link is None else link.link_format
            self._lane.send(role, AttachLink(0, 0 if link is None else link.id, link_format))
        elif link is not None:
            message = AttachLink(0, link.id, link.link_format)
            self._lane.send(role, message, link.connection.fileno())

    def _set_offload(self, offload: Offload) -> None:
        if offload is not self._offload:
            self._device.set_offload(offload)
            self._offload = offload
