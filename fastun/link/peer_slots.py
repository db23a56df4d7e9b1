"""The peers that may connect, and the slot by which the data path knows each.

Peers come from the configuration file and, on a server, from the peer directory, which may change
while the gateway runs. A slot belongs to one peer for as long as the peer is here, and then to none
until the workers have heard so. The unsealed wires have one peer, with a name and no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastun import log
from fastun.lane.lane import Lane
from fastun.lane.messages import AllowIps, ForgetIps, ForgetReceivingKeys
from fastun.native import PEER_SLOTS
from fastun.peers.peer import Peer
from fastun.session.initiation_guard import InitiationGuard

# A control message takes 8 KiB; an IPv6 network in it takes 22 bytes. A file may have 130,000.
NETWORKS_PER_MESSAGE = 256
ROUTING_ROLES = ("tun-reader", "link-reader")


@dataclass
class SlottedPeer:
    """A peer in its slot."""

    slot: int
    peer: Peer
    guard: InitiationGuard = field(default_factory=InitiationGuard)
    pushed_keepalive_s: int = 0  # 0: none

    @property
    def keepalive_s(self) -> int | None:
        """The interval of persistent keepalives: the configured one, else the pushed one."""
        return self.peer.keepalive_s or self.pushed_keepalive_s or None


class PeerSlots:
    """All peers, by slot. Changed on the event loop only; any thread may read ``by_slot``."""

    def __init__(self, lane: Lane, on_removed: Callable[[int], None] = lambda _: None) -> None:
        """Begin empty. ``on_removed`` ends what there is of the peer that leaves a slot."""
        self.by_slot: dict[int, SlottedPeer] = {}
        self._by_key: dict[bytes, SlottedPeer] = {}
        self._lane = lane
        self._on_removed = on_removed
        self._log = log.get("peers")

    def holder_of(self, public_key: bytes) -> SlottedPeer | None:
        """Return the peer that holds the key, if there is one."""
        return self._by_key.get(public_key)

    def replace(self, peers: Iterable[Peer]) -> bool:
        """Have exactly these peers; return whether all are in, or False: call again in a moment.

        A peer that would get a slot which has only now become free has to wait: workers may still
        seal, open and count for the last peer there.
        """
        wanted = {peer.public_key: peer for peer in peers}
        gone = [
            slotted
            for slotted in self.by_slot.values()
            if wanted.get(slotted.peer.public_key) != slotted.peer
        ]
        for slotted in gone:
            self._remove(slotted)
        just_freed = {slotted.slot for slotted in gone}
        for peer in wanted.values():
            if peer.public_key in self._by_key:
                continue
            slot = next((s for s in range(PEER_SLOTS) if s not in self.by_slot), None)
            if slot in just_freed:
                return False
            self._add(peer, slot)
        return True

    def push_keepalive(self, peer: Peer, interval_s: int) -> None:
        """Set the interval of keepalives that the peer has pushed; 0: none. Timers follow it."""
        slotted = self._by_key.get(peer.public_key)
        if slotted is not None:
            slotted.pushed_keepalive_s = interval_s

    def tell_worker(self, role: str) -> None:
        """Give a fresh worker the addresses of each peer."""
        if role in ROUTING_ROLES:
            for slotted in self.by_slot.values():
                self._allow_ips(role, slotted)

    def _add(self, peer: Peer, slot: int | None) -> None:
        if slot is None:
            self._log.error("no room for the peer", peer=peer.name, most=PEER_SLOTS)
            return
        self._lane.peers.clear(slot)
        slotted = SlottedPeer(slot, peer)
        self.by_slot = {**self.by_slot, slot: slotted}  # a scrape may be walking the old one
        self._by_key[peer.public_key] = slotted
        for role in ROUTING_ROLES:
            self._allow_ips(role, slotted)
        self._log.debug("added", peer=peer.name, slot=slot)

    def _remove(self, slotted: SlottedPeer) -> None:
        self.by_slot = {s: other for s, other in self.by_slot.items() if s != slotted.slot}
        del self._by_key[slotted.peer.public_key]
        for role in ROUTING_ROLES:
            self._lane.send(role, ForgetIps(slotted.slot))
        self._lane.send("link-reader", ForgetReceivingKeys(slotted.slot))
        self._on_removed(slotted.slot)
        self._log.debug("removed", peer=slotted.peer.name, slot=slotted.slot)

    def _allow_ips(self, role: str, slotted: SlottedPeer) -> None:
        networks = [(n.network_address.packed, n.prefixlen) for n in slotted.peer.allowed_ips]
        for start in range(0, len(networks), NETWORKS_PER_MESSAGE):
            part = tuple(networks[start : start + NETWORKS_PER_MESSAGE])
            self._lane.send(role, AllowIps(slotted.slot, part))
