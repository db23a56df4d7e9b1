"""More peers than slots: who has one, who gets one, and what a peer keeps without."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from fastun.endpoint import Endpoint
from fastun.lane.messages import AllowIps, ChangeIps, ForgetIps, ForgetReceivingKeys
from fastun.link import peer_slots
from fastun.link.peer_slots import FREE_SLOTS, NO_SLOT, PeerSlots, SlottedPeer
from fastun.native import PEER_SLOTS
from fastun.peers.peer import Peer
from fastun.session.refusal import HandshakeError, Refusal
from tests.support.recording_lane import RecordingLane

N_PEERS = 5000


def peer(n: int, *, is_site: bool = False) -> Peer:
    return Peer(
        name=f"p{n}",
        public_key=n.to_bytes(32, "big"),
        allowed_ips=(ip_network(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}"),),
        endpoints=(Endpoint("udp", "192.0.2.1", 51820),) if is_site else (),
    )


PEERS = [peer(n) for n in range(1, N_PEERS + 1)]


class Slots:
    """Slots of 5,000 peers, with a clock and links of our own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr("fastun.session.clock.boottime_s", lambda: self.now_s)
        self.lane = RecordingLane()
        self.counted: dict[int, int] = {}  # packets and bytes, by slot
        self.lane.peers.read = lambda slot, _: self.counted.get(slot, 0)
        self.linked: set[int] = set()
        self.left: list[SlottedPeer] = []
        self.slots = PeerSlots(self.lane.as_lane(), self.left.append, self.linked.__contains__)
        assert self.slots.replace(PEERS)

    def connect(self, one: Peer, *, is_linked: bool = True) -> SlottedPeer:
        known = self.slots.holder_of(one.public_key)
        assert known is not None
        slotted = self.slots.in_slot(known)
        if is_linked:
            self.linked.add(slotted.slot)
        return slotted

    def look(self, after_s: float = 0.5) -> None:
        self.now_s += after_s
        self.slots.make_room()

    def end_all(self) -> None:
        self.look()
        self.linked.clear()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Slots:
    return Slots(monkeypatch)


def test_all_are_known_and_none_has_a_slot_before_it_comes(full: Slots) -> None:
    assert (full.slots.n_peers, full.slots.by_slot) == (N_PEERS, {})
    assert len(full.slots.absent) == N_PEERS
    messages = [message for role, message in full.lane.take() if role == "tun-reader"]
    assert all(isinstance(each, AllowIps) and each.slot == NO_SLOT for each in messages)
    assert sum(len(each.networks) for each in messages if isinstance(each, AllowIps)) == N_PEERS


def test_any_1024_have_slots_at_once_and_no_more(full: Slots) -> None:
    for one in PEERS[3000 : 3000 + PEER_SLOTS]:
        full.connect(one)
    full.look(10)
    assert len(full.slots.by_slot) == PEER_SLOTS, "a connected peer keeps its slot"
    with pytest.raises(HandshakeError) as caught:
        full.connect(PEERS[0])
    assert caught.value.reason is Refusal.NO_SLOT


def test_waves_of_clients_each_find_room(full: Slots) -> None:
    for start in (0, 1024, 2048, 3072):
        wave = list(PEERS[start : start + 900])
        for _ in range(30):  # 15 s
            rest = []
            for one in wave:
                try:
                    full.connect(one)
                except HandshakeError:
                    rest.append(one)
            wave = rest
            if not wave:
                break
            full.look()
        assert not wave
        full.end_all()


def test_a_slot_that_was_left_is_given_away_after_the_next_look(full: Slots) -> None:
    for one in PEERS[:PEER_SLOTS]:
        full.connect(one)
    full.end_all()
    full.look(peer_slots.ENDED_S)
    assert len(full.slots.by_slot) == PEER_SLOTS - FREE_SLOTS
    with pytest.raises(HandshakeError):
        full.connect(PEERS[2000])
    full.look()
    assert full.connect(PEERS[2000]).slot in range(PEER_SLOTS)


def test_the_least_recently_heard_give_theirs_up(full: Slots) -> None:
    for one in PEERS[:PEER_SLOTS]:
        full.now_s += 0.01
        full.connect(one, is_linked=False)
    full.look(peer_slots.HANDSHAKE_S)
    absent = {slotted.peer.name for slotted in full.left}
    assert absent == {one.name for one in PEERS[:FREE_SLOTS]}


def test_a_handshake_under_way_keeps_its_slot(full: Slots) -> None:
    for one in PEERS[:PEER_SLOTS]:
        full.connect(one, is_linked=False)
    full.look(peer_slots.HANDSHAKE_S - 0.1)
    assert full.left == []


def test_a_site_always_has_a_slot(full: Slots) -> None:
    for one in PEERS[:PEER_SLOTS]:
        full.connect(one)
    full.end_all()
    site = peer(9000, is_site=True)
    for _ in range(4):
        full.now_s += peer_slots.HANDSHAKE_S
        if full.slots.replace([*PEERS, site]):
            break
    found = full.slots.holder_of(site.public_key)
    assert found is not None
    assert found.slot in full.slots.by_slot
    for _ in range(3):
        full.look(100)
    assert found.slot in full.slots.by_slot


def test_a_peer_keeps_its_counts_its_guard_and_its_last_handshake(full: Slots) -> None:
    first = full.connect(PEERS[0])
    first.guard.last_timestamp, first.last_handshake = b"t" * 12, 5.0
    full.counted[first.slot] = 100
    for one in PEERS[1:PEER_SLOTS]:
        full.connect(one)
    full.look()
    full.linked.remove(first.slot)
    full.look(peer_slots.ENDED_S)
    absent = full.slots.holder_of(PEERS[0].public_key)
    assert absent is not None
    assert absent.slot == NO_SLOT
    assert absent.counted["receive_packets"] == 100
    full.counted.clear()
    full.look()
    again = full.connect(PEERS[0])
    assert again.counted["transmit_bytes"] == 100
    assert (again.guard.last_timestamp, again.last_handshake) == (b"t" * 12, 5.0)


def test_addresses_of_an_absent_peer_never_fall_to_a_wider_prefix(full: Slots) -> None:
    slotted = full.connect(PEERS[0], is_linked=False)
    for one in PEERS[1:PEER_SLOTS]:
        full.connect(one)
    full.lane.take()
    full.look(peer_slots.HANDSHAKE_S)
    of_reader = [message for role, message in full.lane.take() if role == "link-reader"]
    network = (PEERS[0].allowed_ips[0].network_address.packed, 32)
    assert of_reader == [
        AllowIps(NO_SLOT, (network,)),
        ForgetReceivingKeys(slotted.slot),
        ForgetIps(slotted.slot),
    ]


def test_a_removed_absent_peer_leaves_no_address_behind(full: Slots) -> None:
    full.lane.take()
    assert full.slots.replace(PEERS[1:])
    (address,) = [(each.network_address.packed, 32) for each in PEERS[0].allowed_ips]
    forgotten = ChangeIps(added=(), removed=((NO_SLOT, *address),))
    assert full.lane.take() == [("tun-reader", forgotten), ("link-reader", forgotten)]
    assert full.slots.holder_of(PEERS[0].public_key) is None


def test_when_there_are_slots_for_all_again_all_have_one(full: Slots) -> None:
    connected = full.connect(PEERS[5])
    assert full.slots.replace(PEERS[:PEER_SLOTS])
    assert len(full.slots.by_slot) == PEER_SLOTS
    assert full.slots.absent == {}
    assert full.slots.holder_of(PEERS[5].public_key) is connected


def test_a_fresh_worker_learns_of_absent_peers_too(full: Slots) -> None:
    full.connect(PEERS[0])
    full.lane.take()
    full.slots.tell_worker(full.lane.worker("tun-reader"))
    messages = [message for _, message in full.lane.take() if isinstance(message, AllowIps)]
    assert {message.slot for message in messages} == {0, NO_SLOT}
    assert sum(len(message.networks) for message in messages) == N_PEERS
