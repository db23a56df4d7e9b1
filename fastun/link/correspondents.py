"""The peers on UDP by their slots, and where each is reached.

Where an authentic handshake message came from, the link-reader is told; where authentic data came
from, it tells (``Correspondents.follow``).
"""

from __future__ import annotations

from fastun import log
from fastun._native import UdpAddress
from fastun.channel import SetEndpoint
from fastun.lane import Lane
from fastun.link.correspondent import Correspondent
from fastun.link.observer import Observer
from fastun.link.table import LinkTable
from fastun.link.udp import UdpSockets
from fastun.peers.roster import Member
from fastun.session.cookies import CookieJar
from fastun.session.timer_constants import TimerConstants
from fastun.session.timers import PeerTimers


class Correspondents:
    """Those who were heard, or are tried. Event loop only."""

    def __init__(
        self, lane: Lane, links: LinkTable, sockets: UdpSockets, constants: TimerConstants
    ) -> None:
        """Begin without any."""
        self.by_slot: dict[int, Correspondent] = {}
        self._lane = lane
        self._links = links
        self._sockets = sockets
        self._constants = constants
        self._log = log.get("session")

    def of_member(self, member: Member) -> Correspondent:
        """Return the member's, new where the slot was another's."""
        correspondent = self.by_slot.get(member.slot)
        if correspondent is None or correspondent.member is not member:
            timers = PeerTimers(
                self._constants, persistent_keepalive_s=member.peer.keepalive_s or None
            )
            observer = Observer(self._lane.peers, member.slot, timers)
            observer.skip()
            jar = CookieJar(member.peer.public_key)
            correspondent = Correspondent(member, timers, observer, jar)
            self.by_slot[member.slot] = correspondent
        return correspondent

    def is_carried(self, correspondent: Correspondent) -> bool:
        """Return whether the peer's link is the one on UDP."""
        link = self._links.by_slot.get(correspondent.member.slot)
        return link is not None and link is correspondent.link

    def send(self, correspondent: Correspondent, message: bytes) -> None:
        """Send a datagram to the peer, if it is known where. Raises OSError."""
        if correspondent.address is not None:
            self._sockets.send(message, correspondent.address)

    # -- where they are -----------------------------------------------------------------------

    def set_address(self, correspondent: Correspondent, address: UdpAddress) -> None:
        """Take note of where an authentic handshake message came from."""
        correspondent.address = address
        self.say_endpoint(correspondent)

    def say_endpoint(self, correspondent: Correspondent) -> None:
        """Tell the link-reader where the peer is, if that is known."""
        if correspondent.address is not None:
            packed = correspondent.address.pack()
            self._lane.send("link-reader", SetEndpoint(correspondent.member.slot, packed))

    def follow(self, correspondent: Correspondent) -> None:
        """Learn from the link-reader where the peer has roamed to."""
        address = self._lane.peers.endpoint(correspondent.member.slot)
        if address is None or address == correspondent.address:
            return
        if correspondent.link is not None and str(address) != correspondent.link.remote:
            correspondent.link.remote = str(address)
            self._log.info("roamed", peer=correspondent.member.peer.name, remote=str(address))
        correspondent.address = address
