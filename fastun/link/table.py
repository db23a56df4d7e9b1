"""The links that the lane carries, by peer slot.

One place decides what the workers know of a link: ``attach_stream`` and ``attach_datagrams`` send
it, ``end`` takes it back and closes the connection, ``tell_worker`` sends it again to a worker that
replaces another. A peer has one link to send by. When that changes from a stream to UDP, the
stream is still read for a moment: what the peer has put into it arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

import msgspec

from fastun import log
from fastun.lane.lane import Lane
from fastun.lane.lanes import Lanes
from fastun.lane.messages import AttachLink, DetachLink, ForgetReceivingKeys, LinkFormat
from fastun.lane.ways import SetWays
from fastun.lane.worker_process import WorkerProcess
from fastun.link import hello
from fastun.link.address_turns import AddressTurns
from fastun.link.ended import Ended
from fastun.link.established import Established
from fastun.link.hello import Ability
from fastun.link.peer_slots import SlottedPeer
from fastun.native import Wire
from fastun.session.protocol import REJECT_AFTER_TIME_S
from fastun.vocabulary import Transport

# How the reason of links that have ended with a worker's death ends.
WORKER_DIED = " died"

LINK_ROLES = ("link-reader", "link-writer")

# What is still in the sockets when a peer changes to UDP is some round trips of data.
LINGER_S = 5.0


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


class LinkTable:
    """All links. Changed on the event loop only; reading ``by_slot`` is safe from any thread."""

    def __init__(self, lanes: Lanes, default_format: LinkFormat, *, dials: bool = False) -> None:
        """Begin without links; unsealed wires lay out ``default_format`` while there is none.

        ``dials``: this side makes the streams, to the one peer that it has there.
        """
        self.by_slot: dict[int, Link] = {}
        self.n_established = 0
        self.n_reconnects = 0  # of peers that had a link before
        self._lingering: dict[int, tuple[Link, asyncio.TimerHandle]] = {}
        self._names_seen: set[str] = set()
        self._ended: dict[int, tuple[Lane, float]] = {}  # by slot, time.monotonic()
        self._address_turns = AddressTurns()
        self.dials = dials
        self._followers: list[Callable[[Link, bool], None]] = []
        self.lanes = lanes
        self._default_format = default_format
        self._is_sealed = default_format.wire == Wire.WIREGUARD
        self._log = log.get("link")

    def follow(self, follower: Callable[[Link, bool], None]) -> None:
        """Call ``follower`` with each link that has come (True), or gone."""
        self._followers.append(follower)

    def _say(self, link: Link, *, is_there: bool) -> None:
        for follower in self._followers:
            follower(link, is_there)

    # -- beginning ----------------------------------------------------------------------------

    def attach_stream(
        self, established: Established, connection: socket.socket, remote: str
    ) -> Link:
        """Carry a connection, in place of the peer's last link; the table owns it now.

        OSError where no descriptor is left to hand it to the workers; the link has ended then.
        """
        slot = established.slotted.slot
        self._stop_lingering(slot)
        self._end_replaced(slot, remote)
        link = self._make(
            self.lanes.of_stream(slot),
            established.slotted,
            established.link_format,
            remote,
            connection,
        )
        link.peer_software = established.software
        if established.hello is not None:
            link.abilities = established.hello.abilities
        message = AttachLink(slot, link.id, established.link_format)
        try:
            for role in LINK_ROLES:
                link.lane.send(role, message, connection.fileno())
            # last: what it lays out, the link-writer must know
            link.lane.send("tun-reader", message, connection.fileno())
        except OSError as error:
            self.end(slot, f"cannot pass it to the workers: {error.strerror}", link.id)
            raise
        self.lanes.set_ways(self._ways(slot))
        self._log_up(link)
        return link

    def _end_replaced(self, slot: int, remote: str) -> None:
        """End the link that a new stream replaces, if there is one, and say which side did so."""
        replaced = self.by_slot.get(slot)
        if replaced is None:
            return
        if replaced.transport == "udp":
            reason = "TCP has taken over from UDP"
        elif self.dials:
            reason = "this side has dialled again"
        else:
            reason = "the peer has connected again"
            self.note_move(slot, replaced.remote, remote)
        self.end(slot, reason)

    def note_move(self, slot: int, before: str, after: str) -> None:
        """Note that a connected peer is heard from elsewhere; each is ``host:port``."""
        link = self.by_slot.get(slot)
        if link is not None and not self.dials:
            self._address_turns.note(link.peer_name, before, after)

    def attach_datagrams(self, slotted: SlottedPeer, link_format: LinkFormat, remote: str) -> Link:
        """Carry a peer on UDP, in place of its last link. Its keys are not touched."""
        replaced = self.by_slot.get(slotted.slot)
        link = self._make(self.lanes.first, slotted, link_format, remote, None)
        if replaced is not None and replaced.lane is not link.lane:
            for role in ("link-writer", "tun-reader"):
                replaced.lane.send(role, DetachLink(slotted.slot))
        message = AttachLink(slotted.slot, link.id, link_format)
        for role in ("link-writer", "tun-reader"):
            link.lane.send(role, message)
        self.lanes.set_ways(self._ways(slotted.slot))
        self._log_up(link)
        if replaced is not None:
            self._linger(replaced)
        return link

    def _make(
        self,
        lane: Lane,
        slotted: SlottedPeer,
        link_format: LinkFormat,
        remote: str,
        connection: socket.socket | None,
    ) -> Link:
        name = slotted.peer.name
        self.n_established += 1
        self.n_reconnects += name in self._names_seen
        self._names_seen.add(name)
        link = Link(
            id=self.n_established,
            lane=lane,
            slotted=slotted,
            connection=connection,
            remote=remote,
            link_format=link_format,
            peer_software=hello.PLAIN_WIREGUARD,
        )
        self.by_slot[slotted.slot] = link
        self._say(link, is_there=True)
        return link

    def _log_up(self, link: Link) -> None:
        # On UDP the peer's hello comes later, if at all, and is a line of its own (hellos.py).
        software = {} if link.connection is None else {"software": link.peer_software}
        self._log.info(
            "up",
            peer=link.peer_name,
            transport=link.transport,
            remote=link.remote,
            **software,
            super_packets="whole" if link.link_format.super_outbound else "split",
        )

    # -- ending -------------------------------------------------------------------------------

    def end(self, slot: int, reason: str, link_id: int | None = None) -> None:
        """End the peer's link, if it has one (and it is ``link_id``, where that is given)."""
        lingering = self._lingering.get(slot)
        if lingering is not None and link_id == lingering[0].id:
            self._stop_lingering(slot)
            return
        link = self.by_slot.get(slot)
        if link is None or link_id not in (None, link.id):
            return
        del self.by_slot[slot]
        link.lane.send("link-writer", DetachLink(slot))
        if self._is_sealed:
            link.lane.send("tun-reader", DetachLink(slot))
            self._ended[slot] = (link.lane, time.monotonic())
        if link.connection is not None:
            link.lane.send("link-reader", DetachLink(slot))
            _hang_up(link.connection)
        self.lanes.set_ways(self._ways(slot))
        self._stop_lingering(slot)
        link.end_reason = reason
        self._say(link, is_there=False)
        link.ended.set()
        self._log.info("down", peer=link.peer_name, remote=link.remote, reason=reason)

    def forget_old_keys(self) -> None:
        """Have the link-reader wipe the keys of links that ended so long ago that none opens.

        Not at the end of the link: a handshake of the peer's may be under way, and the link-reader
        knows its keys already.
        """
        now_s = time.monotonic()
        for slot, (lane, ended_s) in list(self._ended.items()):
            if now_s - ended_s >= REJECT_AFTER_TIME_S:
                del self._ended[slot]
                if slot not in self.by_slot:
                    lane.send("link-reader", ForgetReceivingKeys(slot))

    def leave(self, slot: int, reason: str) -> None:
        """End the link of a peer that leaves its slot, whose keys are then another's."""
        self.end(slot, reason)
        self._ended.pop(slot, None)

    def end_all(self, reason: str) -> None:
        """End every link."""
        for slot in list(self.by_slot):
            self.end(slot, reason)
        for slot in list(self._lingering):
            self._stop_lingering(slot)

    def end_streams(self, reason: str, lane: int) -> None:
        """End every stream of a lane."""
        for slot, link in list(self.by_slot.items()):
            if link.connection is not None and link.lane.index == lane:
                self.end(slot, reason)
        for slot, (link, _) in list(self._lingering.items()):
            if link.lane.index == lane:
                self._stop_lingering(slot)

    def _linger(self, link: Link) -> None:
        """Go on reading a stream that is not written any more."""
        if link.connection is None:
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(LINGER_S, self._stop_lingering, link.slot)
        self._lingering[link.slot] = (link, timer)
        link.ended.set()

    def _stop_lingering(self, slot: int) -> None:
        link, timer = self._lingering.pop(slot, (None, None))
        if link is None or timer is None or link.connection is None:
            return
        timer.cancel()
        link.lane.send("link-reader", DetachLink(slot))
        _hang_up(link.connection)
        self._log.debug("old stream drained and closed", peer=link.peer_name, remote=link.remote)

    # -- workers ------------------------------------------------------------------------------

    def _ways(self, slot: int) -> SetWays:
        """Return which lanes carry the peer. The dialling side decides where a flow goes."""
        link = self.by_slot.get(slot)
        return SetWays(slot, () if link is None else (link.lane.index,), by_flow=self.dials)

    def tell_worker(self, worker: WorkerProcess) -> None:
        """Send a fresh worker what its predecessor knew of the links.

        On a sealed wire a tun-reader goes on with all, a link-writer with the peers on UDP: the
        predecessor's death has ended the streams.
        """
        if not self._is_sealed:
            self._tell_unsealed(worker)
            return
        for link in self.by_slot.values():
            if link.lane.index != worker.lane:
                continue
            fd = -1 if link.connection is None else link.connection.fileno()
            if worker.role == "tun-reader" or (worker.role == "link-writer" and fd < 0):
                worker.send(AttachLink(link.slot, link.id, link.link_format), fd)
        if worker.role == "tun-reader":
            for slot in self.by_slot:
                self.lanes.set_ways(self._ways(slot), self.lanes.all[worker.lane])

    def _tell_unsealed(self, worker: WorkerProcess) -> None:
        if worker.role == "tun-writer":
            return
        link = self.by_slot.get(0)
        if link is not None and link.connection is not None:
            message = AttachLink(0, link.id, link.link_format)
            worker.send(message, link.connection.fileno())
        elif worker.role == "tun-reader":
            link_format = self._default_format if link is None else link.link_format
            worker.send(AttachLink(0, 0 if link is None else link.id, link_format))


def _hang_up(connection: socket.socket) -> None:
    # The workers hold duplicates of the descriptor; this ends the stream for all of them.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
