"""Further lanes of peers on UDP: between two fastun ends of several lanes a session in each.

    hellos of a session             the indices of both sides; keys: csrc/session/session_key.h
    link-reader --KeyAdded-->       the dialling side sends an empty message by the lane's socket
    link-reader --KeyConfirmed-->   the serving side seals under these keys, and answers
    link-reader --KeyConfirmed-->   so does the dialling side: the way is proven

Way 0 is the session itself, with its handshakes, timers and control messages; it always carries.
Way i is in lane i of the dialling side, by a port of its own, and at the serving side in the i-th
lane behind the session's, which learns the way's address from what is authentic, as it learns the
session's. The dialling side opens ways on load, and decides which one a flow goes by; the serving
side answers in the one that it came by. When a way carries is said in way.py.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.errors import RuntimeFailure
from fastun.lane.messages import SendKeepalive
from fastun.lane.session_lane import index_in
from fastun.link.datagram.held import Held
from fastun.link.datagram.way import (
    ASK_AFTER_S,
    ASK_EVERY_S,
    SILENT_S,
    Agreed,
    PeerWays,
    Step,
    Traffic,
    Way,
    WayKeys,
)
from fastun.link.datagram.way_links import WayLinks
from fastun.link.hello import Ability
from fastun.link.peer_lanes import has_one_lane
from fastun.native import Aead, UdpAddress
from fastun.session import clock, transport
from fastun.session.refusal import HandshakeError

if TYPE_CHECKING:
    from fastun.lane.lane import Lane
    from fastun.lane.worker_process import WorkerProcess
    from fastun.link.datagram.peer import UdpPeer
    from fastun.link.datagram.peers import UdpPeers
    from fastun.link.datagram.socket_passing import SocketPassing
    from fastun.link.hello import Hello
    from fastun.link.local_end import LocalEnd
    from fastun.session.transport import SessionKeys

#: A peer that is held to a rate from now on may still send by its ways: it notices by silence.
LET_GO_AFTER_S: Final = SILENT_S + 5.0


class Ways:
    """Those of all peers on UDP. Event loop only."""

    def __init__(self, end: LocalEnd, peers: UdpPeers, passing: SocketPassing) -> None:
        """Begin without any; a dialling side has a socket for each lane opened by ``passing``."""
        self._dials = end.settings.role == "connect"
        self._lanes = end.links.lanes
        self._constants = end.constants
        self._links = WayLinks(end)
        self._peers = peers
        self._passing = passing
        self._by_slot: dict[int, PeerWays] = {}
        self._held = Held(peers)
        self._log = log.get("session")

    # -- agreeing -----------------------------------------------------------------------------

    def new_indices(self, slot: int) -> tuple[int, ...]:
        """Return those of a new session: for as many further lanes as this side has."""
        n_lanes = len(self._lanes.all)
        lanes = [self._lanes.of_datagrams(slot, number) for number in range(1, n_lanes)]
        return tuple(index_in(lane.index, n_lanes) for lane in lanes)

    def agree(
        self, udp_peer: UdpPeer, keys: SessionKeys, aead: Aead, hellos: tuple[Hello, Hello]
    ) -> None:
        """Take what both sides have said, this one and the peer, in the session of ``keys``."""
        ours, theirs = hellos
        is_dialled = (Ability.DIALS in ours.abilities) != (Ability.DIALS in theirs.abilities)
        indices = tuple(zip(ours.ways, theirs.ways, strict=False)) if is_dialled else ()
        agreed, slot = Agreed(keys, aead, indices, theirs.bundle), udp_peer.slotted.slot
        known = self._known(udp_peer, agreed)
        if not indices:
            self._held.note(slot)
        if known is None and not indices:
            return
        if known is None:
            known = self._by_slot[slot] = PeerWays(udp_peer, agreed)
        known.agreed = agreed
        for way in known.ways.values():
            if way.number > len(indices):
                self._links.rest(way)
        open_ones = known.ways if self._dials else range(1, len(indices) + 1)
        for number in [each for each in open_ones if each <= len(indices)]:
            self._take_keys(known, number)
        if self._dials:
            self._follow(known)

    def _known(self, udp_peer: UdpPeer, agreed: Agreed) -> PeerWays | None:
        """Return what is known of the peer's ways, none of them proven to another process of it."""
        slot = udp_peer.slotted.slot
        known = self._by_slot.get(slot)
        if known is not None and known.udp_peer is not udp_peer:
            self.forget(slot)
            return None
        if known is not None and known.agreed.bundle != agreed.bundle:
            for way in known.ways.values():
                self._links.rest(way)
            known.begin_anew(agreed)
        return known

    def _take_keys(self, known: PeerWays, number: int) -> None:
        """Have the link-reader of a way's lane open what the peer seals for it."""
        agreed, slot = known.agreed, known.slot
        lane = self._lanes.of_datagrams(slot, number)
        way = known.ways.setdefault(number, Way(number, lane))
        keys = transport.of_lane(agreed.keys, number, agreed.indices[number - 1])
        with contextlib.suppress(HandshakeError):  # no place: the way is not proven
            fresh = WayKeys(keys, agreed.aead, lane.sending.begin(slot))
            self._links.open_by(known, way, fresh)

    def _open(self, known: PeerWays, number: int) -> None:
        """Begin with one more way, by a socket of its own."""
        if self._has_socket(self._lanes.of_datagrams(known.slot, number)):
            self._take_keys(known, number)
            self._lead(known, known.ways[number])

    def _has_socket(self, lane: Lane, *, is_new: bool = False) -> bool:
        try:
            self._passing.open_in(lane, is_new=is_new)
        except (OSError, RuntimeFailure) as error:
            self._log.debug("no socket for one more lane", lane=lane.index, error=str(error))
            return False
        return True

    # -- proofs -------------------------------------------------------------------------------

    def on_key_added(self, slot: int, index: int) -> None:
        """Prove the way, whose link-reader opens what names ``index``."""
        known, way = self._with_index(slot, index)
        if known is None or way is None:
            return
        way.opened[index].is_added = True
        if self._dials and self._is_wanted(known, way):
            self._prove(known, way)

    def on_key_confirmed(self, slot: int, index: int) -> None:
        """Seal by the way's keys, which the peer has proved to hold."""
        known, way = self._with_index(slot, index)
        if known is None or way is None or way.is_proven:
            return
        if self._is_used(known) and self._is_agreed(known, way):
            self._use(known, way)

    def _with_index(self, slot: int, index: int) -> tuple[PeerWays | None, Way | None]:
        known = self._by_slot.get(slot)
        return known, None if known is None else known.with_index(index)

    def _prove(self, known: PeerWays, way: Way) -> None:
        """Send the first message of new keys, by the way's own socket."""
        newest, to = way.newest, known.address
        way.life.asked_s = clock.boottime_s()
        if newest is None or to is None:
            return
        with contextlib.suppress(OSError):  # lost, as any datagram may be
            self._passing.sockets.send(newest.seal_empty(), to, way.lane.index)

    def _use(self, known: PeerWays, way: Way) -> None:
        if self._dials and way.used is None:
            self._lead(known, way)
        self._links.seal_by_newest(known, way)
        if not way.life.is_carrying and self._is_wanted(known, way):
            self._links.carry(way)

    def _is_agreed(self, known: PeerWays, way: Way) -> bool:
        return way.number <= len(known.agreed.indices) and known.let_go_s is None

    def _is_wanted(self, known: PeerWays, way: Way) -> bool:
        has_load = not self._dials or way.number < known.load.n_lanes
        return has_load and self._is_agreed(known, way)

    # -- time ---------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Do what is due: once each look at the peers."""
        self._held.renew(now_s)
        for known in list(self._by_slot.values()):
            if not self._is_used(known):
                self._drop(known)
                continue
            if self._has_one_lane(known, now_s):
                continue
            if self._dials:
                self._dial(known, now_s)
            for way in known.ways.values():
                self._look_at(known, way, now_s)

    def _is_used(self, known: PeerWays) -> bool:
        udp_peer = known.udp_peer
        is_there = self._peers.is_present(udp_peer) and udp_peer.current is not None
        return is_there and self._peers.is_carried(udp_peer)

    def _has_one_lane(self, known: PeerWays, now_s: float) -> bool:
        """Return whether a peer with ways may have one lane only, by its terms of now."""
        if not has_one_lane(known.udp_peer.slotted.peer.terms):
            known.let_go_s = None
            return False
        if known.let_go_s is None:
            known.let_go_s = now_s + LET_GO_AFTER_S
            self._held.note(known.slot)
        for way in known.ways.values():
            self._links.close(known, way, "the peer has a rate limit now")
        if now_s >= known.let_go_s:
            self.forget(known.slot)
        return True

    def _dial(self, known: PeerWays, now_s: float) -> None:
        slot, n_max = known.slot, 1 + len(known.agreed.indices)
        fields = ("transmit_packets", "receive_packets")
        n_packets = sum(self._lanes.peers.read(slot, field) for field in fields)
        opening, n_before = self._lanes.opening, known.load.n_lanes
        n_lanes = known.load.look(
            n_packets, now_s, n_max, lambda: opening.is_worth(self._in_use(known))
        )
        if n_lanes > n_before:
            opening.note_opened()
        self._follow(known)
        for number in range(1, n_lanes):
            if number not in known.ways:
                self._open(known, number)
        if any(way.life.is_carrying for way in known.ways.values()):
            self._keep_first(known, now_s)

    def _in_use(self, known: PeerWays) -> list[int]:
        """Return the lanes that carry the peer's traffic."""
        carrying = [way.lane for way in known.ways.values() if way.life.is_carrying]
        return [lane.index for lane in (self._lanes.of_datagrams(known.slot), *carrying)]

    def _keep_first(self, known: PeerWays, now_s: float) -> None:
        """Keep the session's own way mapped, and have it asked where all are silent."""
        slot, latest = known.slot, self._lanes.peers.latest
        first = self._lanes.of_datagrams(slot)
        if now_s - Traffic.of(first.peers, slot).sent_s >= ASK_EVERY_S:
            first.send("tun-reader", SendKeepalive(slot))
        sent_s, heard_s = (latest(slot, f) / 1e9 for f in ("sent_data_ns", "received_ns"))
        timers = known.udp_peer.timers
        if sent_s > heard_s and timers.unanswered_since_s is None:
            timers.unanswered_since_s = sent_s

    def _follow(self, known: PeerWays) -> None:
        """Send all ways to where the peer is, when that has changed, or our address on the way.

        It may be another gateway now, which opens nothing before it is proven there.
        """
        address, before = known.udp_peer.address, known.address
        if address is None or address == before:
            return
        known.address = address
        is_elsewhere = before is None or (address.host, address.port) != (before.host, before.port)
        for way in known.ways.values():
            if is_elsewhere:
                self._links.rest(way)
            if way.link is None or way.used is not None:  # else it is led there when it is proven
                self._lead(known, way)

    def _lead(self, known: PeerWays, way: Way) -> None:
        at, newest = known.address, way.newest
        if at is not None:
            there = UdpAddress(at.host, at.port, 0, at.zone)
            self._links.lead(known, way, there, None if newest is None else newest.keys)

    def _look_at(self, known: PeerWays, way: Way, now_s: float) -> None:
        constants = self._constants
        way.forget_expired(now_s - constants.reject_after_time_s)
        is_wanted = self._is_wanted(known, way)
        if self._dials and way.life.wants_other_port(now_s, is_wanted=is_wanted):
            self._has_socket(way.lane, is_new=True)
        is_to_be_proven = is_wanted and way.may_be_proven and not way.is_proven
        if self._dials and is_to_be_proven and now_s - way.life.asked_s >= ASK_AFTER_S:
            self._prove(known, way)
        if self._links.of(way) is None or way.used is None:
            return
        traffic = Traffic.of(way.lane.peers, known.slot)
        self._tell_timers(known, way, traffic)
        self._links.tell_limits(known, way)
        left_s = way.used.keys.created_s + constants.reject_after_time_s - now_s
        if left_s <= constants.rekey_timeout_s:
            self._links.close(known, way, "its keys are too old")
            return
        is_wanted = is_wanted and left_s > constants.keepalive_timeout_s
        for step in way.life.steps(now_s, traffic, dials=self._dials, is_wanted=is_wanted):
            # What was heard may have come from the gateway that was left.
            if step is not Step.CARRY or way.is_proven or not self._dials:
                self._do(known, way, step)

    def _do(self, known: PeerWays, way: Way, step: Step) -> None:
        match step:
            case Step.ASK:
                self._links.ask(known, way)
            case Step.REST:
                self._links.rest(way)
            case Step.CARRY:
                self._links.carry(way)

    def _tell_timers(self, known: PeerWays, way: Way, traffic: Traffic) -> None:
        """Let the session be renewed by what its ways do: their keys age with it."""
        timers, read, before = known.udp_peer.timers, way.lane.peers.read, way.seen
        way.seen = traffic
        if traffic.sent_data_s > before.sent_data_s:
            counter, n_blocks = (read(known.slot, f) for f in ("sealed", "sealed_blocks"))
            timers.rekey_on_send(traffic.sent_data_s, counter, n_blocks)
        if traffic.heard_data_s > before.heard_data_s:
            timers.rekey_on_receive(traffic.heard_data_s)

    # -- the end ------------------------------------------------------------------------------

    def forget(self, slot: int) -> None:
        """Have none of the peer any more; its link-readers open nothing of it there."""
        known = self._by_slot.get(slot)
        if known is not None:
            self._drop(known)
            for way in known.ways.values():
                self._links.forget_keys(known, way)

    def _drop(self, known: PeerWays) -> None:
        del self._by_slot[known.slot]
        for way in known.ways.values():
            self._links.close(known, way, "the peer is carried elsewhere")

    # -- workers ------------------------------------------------------------------------------

    def tell_keys(self, worker: WorkerProcess) -> None:
        """Tell a fresh worker, which knows the links: the ways of its lane go on."""
        for known in self._by_slot.values():
            self._links.tell_keys(known, worker)

    def follow_sockets(self) -> None:
        """Reach what came by a socket that is gone, or about to go, by another (serving side)."""
        for known in self._by_slot.values() if not self._dials else ():
            for way in known.ways.values():
                self._links.follow_socket(known, way, self._passing.sockets)
