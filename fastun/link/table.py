"""The links that the lane carries, by peer slot.

One place decides what the workers know of a link: ``attach_stream`` and ``attach_datagrams`` send
it, ``end`` takes it back and closes the connection, ``tell_worker`` sends it again to a worker that
replaces another. A peer has one link to send by. When that changes from a stream to UDP, the
stream is still read for a moment: what the peer has put into it arrives.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from fastun import log
from fastun.host.sockets.address import EndpointAddress
from fastun.lane.lane import Lane
from fastun.lane.lanes import Lanes
from fastun.lane.messages import AttachLink, DetachLink, ForgetReceivingKeys, LinkFormat
from fastun.lane.worker_process import WorkerProcess
from fastun.link import hello
from fastun.link.address_turns import AddressTurns
from fastun.link.endpoint_health import Host
from fastun.link.established import Established
from fastun.link.lingering import Lingering, hang_up
from fastun.link.link import Link
from fastun.link.peer_lanes import PeerLanes
from fastun.link.peer_slots import SlottedPeer
from fastun.native import Wire
from fastun.session.protocol import REJECT_AFTER_TIME_S

# How the reason of links that have ended with a worker's death ends.
WORKER_DIED = " died"

LINK_ROLES = ("link-reader", "link-writer")


class LinkTable:
    """All links. Changed on the event loop only; reading ``by_slot`` is safe from any thread.

    A peer that has several lanes, as this side has, may have a stream in each. ``by_slot`` has the
    oldest of them: it is up while that one or any other is.
    """

    def __init__(self, lanes: Lanes, default_format: LinkFormat, *, dials: bool = False) -> None:
        """Begin without links; unsealed wires lay out ``default_format`` while there is none.

        ``dials``: this side makes the streams, to the one peer that it has there.
        """
        self.by_slot: dict[int, Link] = {}
        self.n_established = 0
        self.n_reconnects = 0  # of peers that had a link before
        self._n_made = 0
        self._lingering = Lingering()
        self._names_seen: set[str] = set()
        self._ended: dict[tuple[int, int], float] = {}  # by slot and lane, time.monotonic()
        self._address_turns = AddressTurns()
        self.dials = dials
        self._followers: list[Callable[[Link, bool], None]] = []
        self.lanes = lanes
        self.of_peers = PeerLanes(lanes, by_flow=dials)
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
        """Carry a connection, in place of the peer's links of other bundles; the table owns it now.

        Its lane is announced when its workers have the key: ``of_peers``. OSError where no
        descriptor is left to hand it to the workers; the link has ended then.
        """
        slot = established.slotted.slot
        lane = self.lanes.of_stream(slot, established.number)
        self._lingering.stop(slot)
        self._end_replaced(established, lane, remote)
        link = self._make(
            lane,
            established.slotted,
            established.link_format,
            remote,
            connection,
        )
        link.peer_software, link.bundle = established.software, established.bundle
        if established.hello is not None:
            link.abilities, link.n_lanes = established.hello.abilities, established.hello.lanes
        message = AttachLink(slot, link.id, established.link_format)
        try:
            for role in LINK_ROLES:
                link.lane.send(role, message, connection.fileno())
            # last: what it lays out, the link-writer must know
            link.lane.send("tun-reader", message, connection.fileno())
        except OSError as error:
            self.end(slot, f"cannot pass it to the workers: {error.strerror}", link.id)
            raise
        if link is self.by_slot[slot]:
            self._log_up(link)
        else:
            self._log.debug("carried by one more lane", peer=link.peer_name, lane=lane.index)
        return link

    def _end_replaced(self, established: Established, lane: Lane, remote: str) -> None:
        """End the links that a new stream replaces, if there are any, and say which side did so."""
        slot, bundle = established.slotted.slot, established.bundle
        replaced = self.by_slot.get(slot)
        if replaced is None:
            return
        again = "this side has dialled again" if self.dials else "the peer has connected again"
        if bundle != 0 and replaced.bundle == bundle:
            for link in self.of_peers.of(slot):
                if link.lane is lane:
                    self.end(slot, again, link.id)
        elif replaced.transport == "udp":
            self.end(slot, "TCP has taken over from UDP")
        else:
            self.note_move(slot, replaced.remote, remote)
            self.end(slot, again)

    def note_move(self, slot: int, before: str, after: str) -> None:
        """Note that a connected peer is heard from elsewhere; each is ``host:port``."""
        link = self.by_slot.get(slot)
        if link is not None and not self.dials:
            self._address_turns.note(link.peer_name, before, after)

    def attach_datagrams(self, slotted: SlottedPeer, link_format: LinkFormat, remote: str) -> Link:
        """Carry a peer on UDP, in place of its last link. Its keys are not touched."""
        replaced = self.of_peers.of(slotted.slot)
        lane = self.lanes.of_datagrams(slotted.slot)
        for each in replaced:
            self.of_peers.remove(each)
            for role in ("link-writer", "tun-reader") if each.lane is not lane else ():
                each.lane.send(role, DetachLink(slotted.slot))
        self.by_slot.pop(slotted.slot, None)
        link = self._make(lane, slotted, link_format, remote, None)
        message = AttachLink(slotted.slot, link.id, link_format)
        for role in ("link-writer", "tun-reader"):
            link.lane.send(role, message)
        self.of_peers.announce(link)
        self._log_up(link)
        for each in replaced:
            self._lingering.add(each)
        return link

    def attach_beside(self, first: Link, lane: Lane) -> Link:
        """Carry a peer on UDP in one more lane; frames go by it when it is announced."""
        link = self._make(lane, first.slotted, first.link_format, first.remote, None)
        link.is_resting = True
        link.peer_software, link.abilities = first.peer_software, first.abilities
        message = AttachLink(first.slot, link.id, first.link_format)
        for role in ("link-writer", "tun-reader"):
            lane.send(role, message)
        return link

    def _make(
        self,
        lane: Lane,
        slotted: SlottedPeer,
        link_format: LinkFormat,
        remote: str,
        connection: socket.socket | None,
    ) -> Link:
        self._n_made += 1
        link = Link(
            id=self._n_made,
            lane=lane,
            slotted=slotted,
            connection=connection,
            remote=remote,
            link_format=link_format,
            peer_software=hello.PLAIN_WIREGUARD,
        )
        self.of_peers.add(link)
        if slotted.slot not in self.by_slot:
            self.by_slot[slotted.slot] = link
            self.n_established += 1
            self.n_reconnects += link.peer_name in self._names_seen
            self._names_seen.add(link.peer_name)
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

    def host_of(self, link: Link) -> Host | None:
        """Return the host that a link leads to, as far as that is known."""
        if link.connection is None:
            address = self.lanes.udp.peers.endpoint(link.slot)
            return None if address is None else address.host
        try:
            return EndpointAddress.of_peer(link.connection).host
        except (OSError, ValueError):  # it is ending
            return None

    # -- ending -------------------------------------------------------------------------------

    def end(self, slot: int, reason: str, link_id: int | None = None) -> None:
        """End the peer's links, if it has any, or that which is ``link_id``."""
        if link_id in self._lingering:
            self._lingering.stop(slot, link_id)
            return
        for link in reversed(self.of_peers.of(slot)):  # the one that is shown at last
            if link_id in (None, link.id):
                self._end(link, reason)

    def _end(self, link: Link, reason: str) -> None:
        slot = link.slot
        self.of_peers.remove(link)
        link.lane.send("link-writer", DetachLink(slot))
        if self._is_sealed:
            link.lane.send("tun-reader", DetachLink(slot))
            self._ended[slot, link.lane.index] = time.monotonic()
        if link.connection is not None:
            link.lane.send("link-reader", DetachLink(slot))
            hang_up(link.connection)
        link.end_reason = reason
        others = self.of_peers.of(slot)
        if others:
            others[0].since = min(others[0].since, link.since)  # the peer was up all the time
            self.by_slot[slot] = others[0]
            self._log.debug("lane lost", peer=link.peer_name, lane=link.lane.index, reason=reason)
        else:
            del self.by_slot[slot]
            self._lingering.stop(slot)
            self._say(link, is_there=False)
            self._log.info("down", peer=link.peer_name, remote=link.remote, reason=reason)
        link.ended.set()

    def keep_first(self, slot: int, reason: str) -> None:
        """End the peer's links but the oldest."""
        for link in self.of_peers.of(slot)[1:]:
            self.end(slot, reason, link.id)

    def note_keys_left(self, slot: int, lane: Lane) -> None:
        """Note that a link-reader has keys of the peer, though there is no link in its lane."""
        self._ended[slot, lane.index] = time.monotonic()

    def note_keys_given(self, slot: int, lane: Lane) -> None:
        """Note that a link-reader has new keys of the peer, which are not to be wiped by then."""
        self._ended.pop((slot, lane.index), None)

    def forget_old_keys(self) -> None:
        """Have the link-reader wipe the keys of links that ended so long ago that none opens.

        Not at the end of the link: a handshake of the peer's may be under way, and the link-reader
        knows its keys already.
        """
        now_s = time.monotonic()
        for (slot, lane), ended_s in list(self._ended.items()):
            if now_s - ended_s >= REJECT_AFTER_TIME_S:
                del self._ended[slot, lane]
                if all(link.lane.index != lane for link in self.of_peers.of(slot)):
                    self.lanes.all[lane].send("link-reader", ForgetReceivingKeys(slot))

    def leave(self, slot: int, reason: str) -> None:
        """End the link of a peer that leaves its slot, whose keys are then another's."""
        self.end(slot, reason)
        self._ended = {key: at for key, at in self._ended.items() if key[0] != slot}

    def end_all(self, reason: str) -> None:
        """End every link."""
        for slot in list(self.by_slot):
            self.end(slot, reason)
        self._lingering.stop()

    def end_streams(self, reason: str, lane: int) -> None:
        """End every stream of a lane."""
        for link in self.of_peers.all():
            if link.connection is not None and link.lane.index == lane:
                self.end(link.slot, reason, link.id)
        self._lingering.stop(lane=lane)

    # -- workers ------------------------------------------------------------------------------

    def is_of_another_lane(self, slot: int, link_id: int, lane: int) -> bool:
        """Return whether there is such a link, and no worker of the lane has ever heard of it."""
        links = (*self.of_peers.of(slot), *self._lingering.of(slot))
        return any(link.id == link_id and link.lane.index != lane for link in links)

    def concerns(self, slot: int, lane: int) -> bool:
        """Return whether a lane has anything of the peer, or had until a moment ago.

        Of one on UDP any may have keys before it has a link.
        """
        links = (*self.of_peers.of(slot), *self._lingering.of(slot))
        return (
            any(link.connection is None for link in links)
            or self.lanes.of_datagrams(slot).index == lane
            or (slot, lane) in self._ended
            or any(link.lane.index == lane for link in links)
        )

    def tell_worker(self, worker: WorkerProcess) -> None:
        """Send a fresh worker what its predecessor knew of the links.

        On a sealed wire a tun-reader goes on with all, a link-writer with the peers on UDP: the
        predecessor's death has ended the streams.
        """
        if not self._is_sealed:
            self._tell_unsealed(worker)
            return
        for link in self.of_peers.all():
            if link.lane.index != worker.lane:
                continue
            fd = -1 if link.connection is None else link.connection.fileno()
            if worker.role == "tun-reader" or (worker.role == "link-writer" and fd < 0):
                worker.send(AttachLink(link.slot, link.id, link.link_format), fd)
        if worker.role == "tun-reader":
            self.of_peers.tell(worker)

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


__all__ = ["LINK_ROLES", "WORKER_DIED", "Link", "LinkTable"]
