"""Who may connect, and the slot by which the data path knows each peer.

Peers come from the configuration file and, on a server, from the peer directory, which may change
while the gateway runs. A slot belongs to one peer for as long as it is in the roster, and then to
nobody until the workers have heard so. The unsealed wires have a roster of one, who has a name and
no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastun import log
from fastun._native import PEER_SLOTS
from fastun.channel import AllowIps, ForgetIps, ForgetReceivingKeys
from fastun.lane import Lane
from fastun.peers.peer import Peer
from fastun.session.initiation_guard import InitiationGuard

# A control message takes 4 KiB; an IPv6 network in it takes some 25 bytes.
NETWORKS_PER_MESSAGE = 64
ROUTING_ROLES = ("tun-reader", "link-reader")


@dataclass
class Member:
    """A peer in its slot."""

    slot: int
    peer: Peer
    guard: InitiationGuard = field(default_factory=InitiationGuard)


class Roster:
    """All members. Changed on the event loop only; reading ``by_slot`` is safe from any thread."""

    def __init__(self, lane: Lane, on_removed: Callable[[int], None] = lambda _: None) -> None:
        """Begin empty. ``on_removed`` ends what there is of a slot's peer, who is none any more."""
        self.by_slot: dict[int, Member] = {}
        self._by_key: dict[bytes, Member] = {}
        self._lane = lane
        self._on_removed = on_removed
        self._log = log.get("peers")

    def member_of(self, public_key: bytes) -> Member | None:
        """Return who holds the key, if anybody may."""
        return self._by_key.get(public_key)

    def replace(self, peers: Iterable[Peer]) -> bool:
        """Have exactly these peers; return whether all are in, or False: call again in a moment.

        Who would get a slot that has only now become free has to wait: workers may still seal,
        open and count for the last peer there.
        """
        wanted = {peer.public_key: peer for peer in peers}
        gone = [
            member
            for member in self.by_slot.values()
            if wanted.get(member.peer.public_key) != member.peer
        ]
        for member in gone:
            self._remove(member)
        just_freed = {member.slot for member in gone}
        for peer in wanted.values():
            if peer.public_key in self._by_key:
                continue
            slot = next((s for s in range(PEER_SLOTS) if s not in self.by_slot), None)
            if slot in just_freed:
                return False
            self._add(peer, slot)
        return True

    def tell_worker(self, role: str) -> None:
        """Tell a fresh worker whose addresses are whose."""
        if role in ROUTING_ROLES:
            for member in self.by_slot.values():
                self._allow_ips(role, member)

    def _add(self, peer: Peer, slot: int | None) -> None:
        if slot is None:
            self._log.error("no room for the peer", peer=peer.name, most=PEER_SLOTS)
            return
        self._lane.peers.clear(slot)
        member = Member(slot, peer)
        self.by_slot = {**self.by_slot, slot: member}  # a scrape may be walking the old one
        self._by_key[peer.public_key] = member
        for role in ROUTING_ROLES:
            self._allow_ips(role, member)
        self._log.debug("added", peer=peer.name, slot=slot)

    def _remove(self, member: Member) -> None:
        self.by_slot = {s: other for s, other in self.by_slot.items() if s != member.slot}
        del self._by_key[member.peer.public_key]
        for role in ROUTING_ROLES:
            self._lane.send(role, ForgetIps(member.slot))
        self._lane.send("link-reader", ForgetReceivingKeys(member.slot))
        self._on_removed(member.slot)
        self._log.debug("removed", peer=member.peer.name, slot=member.slot)

    def _allow_ips(self, role: str, member: Member) -> None:
        networks = [(n.network_address.packed, n.prefixlen) for n in member.peer.allowed_ips]
        for start in range(0, len(networks), NETWORKS_PER_MESSAGE):
            part = tuple(networks[start : start + NETWORKS_PER_MESSAGE])
            self._lane.send(role, AllowIps(member.slot, part))
