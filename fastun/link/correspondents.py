"""The peers on UDP by their slots, whose handshakes wait for what, and where each is reached.

A handshake message names an index and comes from anybody, at any time: it is for who is at its slot
now, or for nobody. Where an authentic one came from, the link-reader is told; where authentic data
came from, it tells (``Correspondents.follow``).
"""

from __future__ import annotations

from fastun import log
from fastun._native import UdpAddress
from fastun.channel import AwaitReply, SetEndpoint
from fastun.lane import Lane
from fastun.link.correspondent import Correspondent
from fastun.link.inside import Inside
from fastun.link.observer import Observer
from fastun.link.table import LinkTable
from fastun.link.udp import UdpSockets
from fastun.peers.roster import Member, Roster
from fastun.session import clock
from fastun.session.cookies import CookieJar
from fastun.session.noise import InitiatorState
from fastun.session.timer_constants import TimerConstants
from fastun.session.timers import PeerTimers
from fastun.session.transport import SessionKeys


class Correspondents:
    """Those who were heard, or are tried. Event loop only."""

    def __init__(  # noqa: PLR0917 (what it stands between)
        self,
        lane: Lane,
        links: LinkTable,
        roster: Roster,
        sockets: UdpSockets,
        constants: TimerConstants,
        inside: Inside,
    ) -> None:
        """Begin without any."""
        self._inside = inside
        self.by_slot: dict[int, Correspondent] = {}
        # By our index of the handshake; with CLOCK_BOOTTIME seconds, when it is over.
        self._waiting: dict[int, tuple[Correspondent, float]] = {}
        self._lane = lane
        self._links = links
        self._roster = roster
        self._sockets = sockets
        self._constants = constants
        self._log = log.get("session")

    def of_member(self, member: Member) -> Correspondent:
        """Return the member's, new where the slot was another's."""
        correspondent = self.by_slot.get(member.slot)
        if correspondent is None or correspondent.member is not member:
            self.forget(member.slot)
            timers = PeerTimers(
                self._constants, persistent_keepalive_s=member.peer.keepalive_s or None
            )
            observer = Observer(self._lane.peers, member.slot, timers)
            observer.skip()
            jar = CookieJar(member.peer.public_key)
            correspondent = Correspondent(member, timers, observer, jar)
            self.by_slot[member.slot] = correspondent
        return correspondent

    def forget(self, slot: int) -> bool:
        """Forget the slot's peer; return whether one was known."""
        correspondent = self.by_slot.pop(slot, None)
        if correspondent is not None:
            self.forget_handshakes(correspondent)
        return correspondent is not None

    def is_present(self, correspondent: Correspondent) -> bool:
        """Return whether the peer may still connect, and this is what is known of it."""
        member = correspondent.member
        is_known = self.by_slot.get(member.slot) is correspondent
        return is_known and self._roster.by_slot.get(member.slot) is member

    def is_carried(self, correspondent: Correspondent) -> bool:
        """Return whether the peer's link is the one on UDP."""
        link = self._links.by_slot.get(correspondent.member.slot)
        return link is not None and link is correspondent.link

    def send(self, correspondent: Correspondent, message: bytes) -> None:
        """Send a datagram to the peer, if it is known where. Raises OSError."""
        if correspondent.address is not None:
            self._sockets.send(message, correspondent.address)

    # -- whose handshakes wait ----------------------------------------------------------------

    def wait_for_response(self, correspondent: Correspondent, initiator: InitiatorState) -> None:
        """Take note of an initiation to the peer, which replaces the last.

        It can be answered no longer than others would have followed it.
        """
        self.end_initiation(correspondent)
        correspondent.initiator = initiator
        until_s = clock.boottime_s() + self._constants.rekey_attempt_time_s
        self._waiting[initiator.local_index] = (correspondent, until_s)
        awaited = AwaitReply(correspondent.member.slot, initiator.local_index)
        self._lane.send("link-reader", awaited)

    def wait_for_proof(
        self, correspondent: Correspondent, keys: SessionKeys, response: bytes
    ) -> None:
        """Take note of a response to the peer, which replaces the last."""
        self.end_response(correspondent)
        correspondent.responding, correspondent.response = keys, response
        until_s = keys.created_s + self._constants.reject_after_time_s
        self._waiting[keys.local_index] = (correspondent, until_s)

    def waiting(self, index: int) -> Correspondent | None:
        """Return whose handshake waits by this index, if it still does."""
        correspondent, until_s = self._waiting.get(index, (None, 0.0))
        if correspondent is None or not self.is_present(correspondent):
            return None
        return correspondent if clock.boottime_s() < until_s else None

    def end_initiation(self, correspondent: Correspondent) -> None:
        """Let our initiation be answered no more."""
        if correspondent.initiator is not None:
            self._waiting.pop(correspondent.initiator.local_index, None)
            correspondent.initiator = None

    def end_response(self, correspondent: Correspondent) -> None:
        """Let the keys of our response be confirmed no more."""
        if correspondent.responding is not None:
            self._waiting.pop(correspondent.responding.local_index, None)
            correspondent.responding = correspondent.response = None

    def forget_handshakes(self, correspondent: Correspondent) -> None:
        """Let no message go on with a handshake of the peer's."""
        self.end_initiation(correspondent)
        self.end_response(correspondent)
        correspondent.concluding = None

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
        if correspondent.address is not None and self._inside.holds(address):
            # Authentic, but from where only this very session leads: it stays where it was.
            self.say_endpoint(correspondent)
            return
        if correspondent.link is not None and str(address) != correspondent.link.remote:
            correspondent.link.remote = str(address)
            self._log.info("roamed", peer=correspondent.member.peer.name, remote=str(address))
        correspondent.address = address
