"""The peers that may connect, and the slot by which the data path knows each that has one.

Peers come from the configuration file and, on a server, from the peer directory; both may change
while the gateway runs. What changes of a peer is changed where it is, under its session; only a
peer with another key, pre-shared or its own, begins anew. The unsealed wires have one peer, with a
name and no key.

As long as there are slots for all, each peer has its own for as long as it is here. Of more peers,
those with an endpoint have one, and any other gets one by a valid handshake:

    absent --handshake--> in a slot --no link, and others may need it--> absent

Some slots are kept free for those that come: the peers that were heard least recently give theirs
up. A slot that was left is another's only after the next look (`replace`, `make_room`), when the
workers have heard of it. Addresses of absent peers lead to NO_SLOT, lest a wider prefix of another
peer take their packets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace as copy_of
from typing import Final

from msgspec import structs

from fastun import log
from fastun.lane.lanes import Lanes
from fastun.lane.messages import ForgetIps, ForgetReceivingKeys
from fastun.lane.worker_process import WorkerProcess
from fastun.link import slot_ips, slot_terms
from fastun.link.slot_ips import Ip, SlotIp
from fastun.link.slotted_peer import ENDED_S, HANDSHAKE_S, NO_SLOT, SlottedPeer
from fastun.native import PEER_FIELDS, PEER_SLOTS, bounded
from fastun.peers.peer import Peer
from fastun.peers.terms import USUAL
from fastun.session import clock
from fastun.session.refusal import HandshakeError, Refusal

ROUTING_ROLES = ("tun-reader", "link-reader")

# Of more peers than slots, so many may come within one look.
FREE_SLOTS: Final = PEER_SLOTS // 4

__all__ = ["ENDED_S", "HANDSHAKE_S", "NO_SLOT", "PeerSlots", "SlottedPeer"]

_COUNTERS: Final = tuple(name for name in PEER_FIELDS if name.endswith(("_packets", "_bytes")))


class PeerSlots:
    """All peers. Changed on the event loop only.

    Any thread may read ``by_slot``, which is replaced rather than changed, and copy the values of
    ``absent`` in one call, which the interpreter's lock makes one step.
    """

    def __init__(
        self,
        lanes: Lanes,
        on_removed: Callable[[SlottedPeer], None] = lambda _: None,
        is_linked: Callable[[int], bool] = lambda _: False,
        on_changed: Callable[[SlottedPeer, Peer], None] = lambda *_: None,
    ) -> None:
        """Begin empty.

        ``on_removed`` ends what there is of the peer that leaves a slot; ``is_linked`` says whether
        the peer of a slot has a link; ``on_changed`` is given one that stays, and what it was.
        """
        self.by_slot: dict[int, SlottedPeer] = {}
        self.absent: dict[bytes, SlottedPeer] = {}  # by key
        self.barred: dict[bytes, tuple[str, str]] = {}  # by key: name, and why it may not connect
        self._by_key: dict[bytes, SlottedPeer] = {}  # all
        self._left: set[int] = set()  # slots, since the last look
        self._lanes = lanes
        self._on_removed = on_removed
        self._on_changed = on_changed
        self._is_linked = is_linked
        self._log = log.get("peers")

    @property
    def n_peers(self) -> int:
        """How many peers may connect."""
        return len(self._by_key)

    def why_barred(self, public_key: bytes) -> tuple[str, str] | None:
        """Return the name of the peer with that key, and why it may not connect; None: it may."""
        return self.barred.get(public_key)

    def holder_of(self, public_key: bytes) -> SlottedPeer | None:
        """Return the peer that holds the key, if there is one."""
        return self._by_key.get(public_key)

    def in_slot(self, slotted: SlottedPeer) -> SlottedPeer:
        """Return the peer in its slot, or in one that it gets. HandshakeError: none is free."""
        if slotted.slot == NO_SLOT:
            slot = next((s for s in self._free() if s not in self._left), None)
            if slot is None:
                raise HandshakeError(Refusal.NO_SLOT)
            slotted = structs.replace(slotted, slot=slot)
            del self.absent[slotted.peer.public_key]
            self._add(slotted)
        slotted.used_s, slotted.was_linked = clock.boottime_s(), False
        return slotted

    # -- a look -------------------------------------------------------------------------------

    def replace(self, peers: Iterable[Peer]) -> bool:
        """Have exactly these peers; return whether all are in, or False: call again in a moment.

        A peer that would get a slot which has only now become free has to wait: workers may still
        seal, open and count for the last peer there.
        """
        wanted = {peer.public_key: peer for peer in peers}
        return self._have(wanted, [(each, wanted.get(key)) for key, each in self._by_key.items()])

    def change(self, peers: Iterable[Peer], gone: Iterable[bytes]) -> bool:
        """Have these peers as well, or as they are now, and none with these keys; as `replace`.

        What it takes does not grow with the peers that stay as they are.
        """
        wanted = {peer.public_key: peer for peer in peers}
        keys = dict.fromkeys((*gone, *wanted))
        known = [(each, wanted.get(key)) for key in keys if (each := self._by_key.get(key))]
        are_all_in = self._have(wanted, known)
        if self.absent and self.n_peers <= PEER_SLOTS:  # from now on there is a slot for each
            return self._seat_all([slotted.peer for slotted in self.absent.values()]) and are_all_in
        return are_all_in

    def _have(
        self, wanted: dict[bytes, Peer], known: list[tuple[SlottedPeer, Peer | None]]
    ) -> bool:
        """Have those that are wanted, of which, and of those to be removed, some are known."""
        stay = [(each, now) for each, now in known if now is not None and _may_stay(each, now)]
        gone = [each for each, now in known if now is None or not _may_stay(each, now)]
        changed = [(each, now) for each, now in stay if each.peer != now]
        new = [peer for key, peer in wanted.items() if key not in self._by_key] if changed else []
        self._left.clear()
        rest = self._change(changed, {ip for peer in new for ip in slot_ips.of(peer)})
        self._remove(gone)
        are_all_in = self._seat(wanted)
        self._change_ips([], rest)
        return are_all_in

    def _seat(self, wanted: dict[bytes, Peer]) -> bool:
        n_peers = len(self._by_key) + sum(key not in self._by_key for key in wanted)
        if n_peers <= PEER_SLOTS:
            return self._seat_all(wanted.values())
        self._add_absent(peer for peer in wanted.values() if not peer.endpoints)
        self._free_idle()
        return self._seat_all(peer for peer in wanted.values() if peer.endpoints)

    def make_room(self) -> None:
        """Keep slots free for those that come, where not all peers have one."""
        self._left.clear()
        if self.absent:
            self._free_idle()

    def _seat_all(self, peers: Iterable[Peer]) -> bool:
        for peer in peers:
            known = self._by_key.get(peer.public_key)
            if known is not None and known.slot != NO_SLOT:
                continue
            slot = next(self._free(), None)
            if slot is None:
                self._log.error("no room for the peer", peer=peer.name, most=PEER_SLOTS)
                continue
            if slot in self._left:
                return False
            if known is not None:
                del self.absent[peer.public_key]
            self._add(
                SlottedPeer(slot, peer) if known is None else structs.replace(known, slot=slot)
            )
        return True

    def _add_absent(self, peers: Iterable[Peer]) -> None:
        added = [
            SlottedPeer(NO_SLOT, peer) for peer in peers if peer.public_key not in self._by_key
        ]
        if added and not self.absent:
            self._log.info("more peers than slots: they get one when they connect", most=PEER_SLOTS)
        by_key = {slotted.peer.public_key: slotted for slotted in added}
        self._by_key |= by_key
        self.absent |= by_key
        for role in ROUTING_ROLES:
            self._allow_ips(role, NO_SLOT, added)

    def _free_idle(self) -> None:
        """Have the peers that were heard least recently give up their slots."""
        now_s = clock.boottime_s()
        idle = []
        for slotted in self.by_slot.values():
            if self._is_linked(slotted.slot):
                slotted.used_s, slotted.was_linked = now_s, True
            elif not slotted.peer.endpoints and slotted.is_idle(now_s):
                idle.append(slotted)
        n_missing = FREE_SLOTS - (PEER_SLOTS - len(self.by_slot))
        if n_missing > 0:
            idle.sort(key=lambda slotted: slotted.used_s)
            for slotted in idle[:n_missing]:
                self._leave(slotted)

    # -- the rest -----------------------------------------------------------------------------

    def push_keepalive(self, peer: Peer, interval_s: int) -> None:
        """Set the interval of keepalives that the peer has pushed; 0: none. Timers follow it."""
        slotted = self._by_key.get(peer.public_key)
        if slotted is not None:
            slotted.pushed_keepalive_s = interval_s

    def count_of(self, slotted: SlottedPeer, field: str) -> int:
        """Return one of PEER_FIELDS of a peer, over all slots that it had."""
        in_slot = 0 if slotted.slot == NO_SLOT else self._lanes.peers.read(slotted.slot, field)
        return bounded(slotted.counted.get(field, 0) + in_slot)

    def set_over_quota(self, public_key: bytes, *, is_over: bool) -> None:
        """Hold a peer to what its quota leaves it, or not any more."""
        slotted = self._by_key.get(public_key)
        if slotted is not None and slotted.is_over_quota != is_over:
            slotted.is_over_quota = is_over
            self._send_terms(slotted)

    def tell_worker(self, worker: WorkerProcess) -> None:
        """Give a fresh worker the addresses and the terms of each peer."""
        if worker.role not in ROUTING_ROLES:
            return
        for slotted in self.by_slot.values():
            for message in slot_ips.allowed(slotted.slot, [slotted]):
                worker.send(message)
            if slotted.peer.terms != USUAL:
                worker.send(slot_terms.message_for(worker.role, slotted, slotted.peer.terms))
        for message in slot_ips.allowed(NO_SLOT, self.absent.values()):
            worker.send(message)

    def _change(self, changed: list[tuple[SlottedPeer, Peer]], new: set[Ip]) -> list[SlotIp]:
        """Give peers other addresses and the like, and leave them their slots and sessions.

        Returns what is still to be taken from them: what ``new`` peers have, when those are in.
        """
        before = [(slotted, slotted.peer) for slotted, _ in changed]
        added: list[SlotIp] = []
        removed: list[SlotIp] = []
        for slotted, now in changed:
            had, has = slot_ips.of(slotted.peer), slot_ips.of(now)
            added += [(slotted.slot, *each) for each in has if each not in had]
            removed += [(slotted.slot, *each) for each in had if each not in has]
            has_other_terms = slotted.peer.terms != now.terms
            slotted.peer = now
            if has_other_terms:
                self._send_terms(slotted)
        self._change_ips(added, [each for each in removed if each[1:] not in new])
        for slotted, was in before:
            self._log.debug("changed", peer=slotted.peer.name, slot=slotted.slot)
            self._on_changed(slotted, was)
        return [each for each in removed if each[1:] in new]

    def _change_ips(self, added: list[SlotIp], removed: list[SlotIp]) -> None:
        for message in slot_ips.changed(added, removed):
            for role in ROUTING_ROLES:
                self._lanes.send(role, message)

    def _free(self) -> Iterator[int]:
        return (slot for slot in range(PEER_SLOTS) if slot not in self.by_slot)

    def _add(self, slotted: SlottedPeer) -> None:
        self._lanes.peers.clear(slotted.slot)
        # A scrape may be walking the old one.
        self.by_slot = {**self.by_slot, slotted.slot: slotted}
        self._by_key[slotted.peer.public_key] = slotted
        for role in ROUTING_ROLES:
            self._allow_ips(role, slotted.slot, [slotted])
        if slotted.peer.terms != USUAL:
            self._send_terms(slotted)
        self._log.debug("added", peer=slotted.peer.name, slot=slotted.slot)

    def _send_terms(self, slotted: SlottedPeer) -> None:
        if slotted.slot != NO_SLOT:
            slot_terms.send(self._lanes, slotted, slotted.peer.terms)

    def _leave(self, slotted: SlottedPeer) -> None:
        """Make the peer absent; it keeps its counts and its guard."""
        slot, key = slotted.slot, slotted.peer.public_key
        counted = {name: self.count_of(slotted, name) for name in _COUNTERS}
        # First, or a wider prefix of another peer would have its packets for a moment.
        for role in ROUTING_ROLES:
            self._allow_ips(role, NO_SLOT, [slotted])
        self._clear(slotted)
        absent = structs.replace(slotted, slot=NO_SLOT, counted=counted)
        self._by_key[key] = absent
        self.absent[key] = absent
        self._log.debug("gave up its slot", peer=slotted.peer.name, slot=slot)

    def _remove(self, gone: list[SlottedPeer]) -> None:
        for slotted in gone:
            del self._by_key[slotted.peer.public_key]
            if slotted.slot != NO_SLOT:
                self._clear(slotted)
            self._log.debug("removed", peer=slotted.peer.name, slot=slotted.slot)
        were_absent = [slotted for slotted in gone if slotted.slot == NO_SLOT]
        for slotted in were_absent:
            self.absent.pop(slotted.peer.public_key, None)
        ips = (ip for slotted in were_absent for ip in slot_ips.of(slotted.peer))
        self._change_ips([], [(NO_SLOT, *ip) for ip in ips])

    def _clear(self, slotted: SlottedPeer) -> None:
        """Take the slot from its peer."""
        self.by_slot = {s: other for s, other in self.by_slot.items() if s != slotted.slot}
        self._left.add(slotted.slot)
        # First: what still arrived would bring back what is to be forgotten.
        self._lanes.send("link-reader", ForgetReceivingKeys(slotted.slot))
        for role in ROUTING_ROLES:
            self._lanes.send(role, ForgetIps(slotted.slot))
        if slotted.peer.terms != USUAL:  # they are this peer's, and not the next one's there
            slot_terms.send(self._lanes, slotted, USUAL)
        self._on_removed(slotted)

    def _allow_ips(self, role: str, slot: int, peers: Iterable[SlottedPeer]) -> None:
        """Give the slot the peers' addresses; those that another slot had go to this one."""
        for message in slot_ips.allowed(slot, peers):
            self._lanes.send(role, message)


def _may_stay(slotted: SlottedPeer, now: Peer) -> bool:
    """Return whether a peer becomes ``now`` where it is.

    Its session was made with its pre-shared key, and ends with it. One that is absent has none,
    and its addresses are in no slot: only name and terms change there.
    """
    before = slotted.peer
    if slotted.slot == NO_SLOT:
        return copy_of(before, name=now.name, terms=now.terms) == now
    return before.preshared_key == now.preshared_key
