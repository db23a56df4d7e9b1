"""Peer slots: who holds which key, and what the workers hear of whose addresses."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from fastun.lane import messages, packing
from fastun.lane.messages import AllowIps, ChangeIps, ForgetIps, ForgetReceivingKeys
from fastun.link import slot_ips
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.peers.peer import Peer
from tests.support.recording_lane import RecordingLane


def peer(name: str, *prefixes: str) -> Peer:
    return Peer(
        name=name,
        public_key=name.encode().ljust(32, b"."),
        allowed_ips=tuple(map(ip_network, prefixes)),
    )


ANT, BEE = peer("ant", "10.9.0.2/32"), peer("bee", "10.9.0.3/32", "fd00::/64")


@pytest.fixture
def lane() -> RecordingLane:
    return RecordingLane()


@pytest.fixture
def full(lane: RecordingLane) -> PeerSlots:
    """Slots of two, whose workers have been given."""
    filled = PeerSlots(lane.as_lane())
    assert filled.replace([ANT, BEE])
    return filled


def test_the_holder_of_a_key_is_found_and_no_other(full: PeerSlots) -> None:
    found = full.holder_of(BEE.public_key)
    assert found is not None
    assert (found.slot, found.peer) == (1, BEE)
    assert full.holder_of(bytes(32)) is None


def test_both_routing_workers_learn_the_addresses_of_each_peer(
    full: PeerSlots, lane: RecordingLane
) -> None:
    expected = [
        (role, AllowIps(slot, networks))
        for slot, networks in (
            (0, ((bytes([10, 9, 0, 2]), 32),)),
            (1, ((bytes([10, 9, 0, 3]), 32), (bytes([0xFD]) + bytes(15), 64))),
        )
        for role in ("tun-reader", "link-reader")
    ]
    assert lane.take() == expected
    assert lane.cleared == [0, 1]
    full.tell_worker(lane.worker("tun-writer"))
    full.tell_worker(lane.worker("link-writer"))
    assert lane.take() == []
    full.tell_worker(lane.worker("link-reader"))
    assert lane.take() == [given for given in expected if given[0] == "link-reader"]


def test_a_removed_peer_is_unknown_and_its_addresses_are_forgotten(
    full: PeerSlots, lane: RecordingLane
) -> None:
    lane.take()
    assert full.replace([BEE])
    assert full.holder_of(ANT.public_key) is None
    assert list(full.by_slot) == [1]
    assert lane.take() == [
        ("link-reader", ForgetReceivingKeys(0)),
        ("tun-reader", ForgetIps(0)),
        ("link-reader", ForgetIps(0)),
    ]


def test_a_peer_that_stays_keeps_its_slot_and_its_guard(
    full: PeerSlots, lane: RecordingLane
) -> None:
    lane.take()
    before = full.holder_of(BEE.public_key)
    assert full.replace([BEE, ANT])
    assert full.holder_of(BEE.public_key) is before
    assert lane.take() == []


def test_a_peer_with_another_preshared_key_is_a_new_one_that_counts_from_zero(
    full: PeerSlots, lane: RecordingLane
) -> None:
    lane.cleared.clear()
    rekeyed = replace(BEE, preshared_key=bytes(32))
    assert not full.replace([ANT, rekeyed])
    assert full.replace([ANT, rekeyed])
    found = full.holder_of(BEE.public_key)
    assert found is not None
    assert (found.slot, found.peer) == (1, rekeyed)
    assert lane.cleared == [1]


def test_a_peer_changes_under_its_session(lane: RecordingLane) -> None:
    """Its slot, its keys and its counts stay; the workers learn only what is new."""
    ended: list[SlottedPeer] = []
    changed: list[tuple[SlottedPeer, Peer]] = []
    slots = PeerSlots(lane.as_lane(), ended.append, on_changed=lambda *each: changed.append(each))
    slots.replace([ANT, BEE])
    before = slots.holder_of(BEE.public_key)
    assert before is not None
    lane.take()
    lane.cleared.clear()
    now = replace(peer("bee", "fd00::/64", "10.9.0.4/32"), name="wasp", keepalive_s=7)
    assert slots.replace([ANT, now])
    assert slots.holder_of(BEE.public_key) is before
    assert (before.slot, before.peer, before.keepalive_s) == (1, now, 7)
    assert (ended, changed, lane.cleared) == ([], [(before, BEE)], [])
    expected = ChangeIps(
        added=((1, bytes([10, 9, 0, 4]), 32),), removed=((1, bytes([10, 9, 0, 3]), 32),)
    )
    assert lane.take() == [("tun-reader", expected), ("link-reader", expected)]


def test_addresses_change_hands_in_one_step(full: PeerSlots, lane: RecordingLane) -> None:
    lane.take()
    assert full.replace([peer("ant", "10.9.0.3/32"), peer("bee", "10.9.0.2/32", "fd00::/64")])
    two, three = (bytes([10, 9, 0, 2]), 32), (bytes([10, 9, 0, 3]), 32)
    expected = ChangeIps(added=((0, *three), (1, *two)), removed=((0, *two), (1, *three)))
    assert lane.take() == [("tun-reader", expected), ("link-reader", expected)]


def test_what_a_new_peer_gets_is_its_own_before_the_old_one_gives_it_up(
    full: PeerSlots, lane: RecordingLane
) -> None:
    lane.take()
    address = (bytes([10, 9, 0, 2]), 32)
    assert full.replace([peer("ant"), BEE, peer("cat", "10.9.0.2/32")])
    assert [message for role, message in lane.take() if role == "tun-reader"] == [
        AllowIps(2, (address,)),
        ChangeIps(added=(), removed=((0, *address),)),
    ]


def test_many_changes_are_sent_in_messages_that_fit(lane: RecordingLane) -> None:
    slots = PeerSlots(lane.as_lane())
    before = peer("ant", *(f"fd00:{n:x}::/64" for n in range(600)))
    after = peer("ant", *(f"fd01:{n:x}::/64" for n in range(300)))
    slots.replace([before])
    lane.take()
    slots.replace([after])
    given = [message for role, message in lane.take() if role == "tun-reader"]
    assert all(len(packing.pack(message)) < messages.MESSAGE_BYTES_MAX for message in given)
    parts = [message for message in given if isinstance(message, ChangeIps)]
    added = [each for part in parts for each in part.added]
    removed = [each for part in parts for each in part.removed]
    assert added == [(0, *slot_ips.packed(each)) for each in after.allowed_ips]
    assert removed == [(0, *slot_ips.packed(each)) for each in before.allowed_ips]


def test_a_freed_slot_is_not_given_away_until_the_workers_know(lane: RecordingLane) -> None:
    """What the last peer there had is ended at once, and the next comes with the next call."""
    ended: list[int] = []

    def end(slotted: SlottedPeer) -> None:
        slot = slotted.slot
        assert slot not in slotted_peers.by_slot
        assert ("link-reader", ForgetReceivingKeys(slot)) in lane.take()
        ended.append(slot)

    slotted_peers = PeerSlots(lane.as_lane(), end)
    slotted_peers.replace([ANT, BEE])
    cat, dog = peer("cat", "10.9.0.2/32"), peer("dog")
    for _ in range(2):
        assert not slotted_peers.replace([BEE, cat, dog])
        assert (ended, list(slotted_peers.by_slot), lane.take()) == ([0], [1], [])
        ended.clear()
        assert slotted_peers.replace([BEE, cat, dog])
        assert [slotted_peers.by_slot[slot].peer.name for slot in (0, 1, 2)] == [
            "cat",
            "bee",
            "dog",
        ]
        assert ended == []
        slotted_peers.replace([ANT, BEE])
        slotted_peers.replace([ANT, BEE])
        ended.clear()
        lane.take()


def test_a_peer_that_gets_another_slot_does_not_wait(full: PeerSlots) -> None:
    full.replace([BEE])
    assert full.replace([peer("cat")])
    assert [slotted.peer.name for slotted in full.by_slot.values()] == ["cat"]


def test_the_first_free_slot_is_taken(full: PeerSlots) -> None:
    full.replace([BEE])
    full.replace([BEE, peer("cat")])
    assert [full.by_slot[slot].peer.name for slot in (0, 1)] == ["cat", "bee"]


def test_a_scrape_that_walks_the_slots_is_not_disturbed(full: PeerSlots) -> None:
    walked = full.by_slot
    full.replace([BEE])
    assert list(walked) == [0, 1]
    walked = full.by_slot
    full.replace([BEE, peer("cat")])
    assert list(walked) == [1]


def test_many_networks_are_sent_in_messages_that_fit(lane: RecordingLane) -> None:
    most = slot_ips.NETWORKS_PER_MESSAGE
    networks = [f"fd00:{n:x}::ffff/128" for n in range(2 * most + 1)]
    PeerSlots(lane.as_lane()).replace([peer("ant", *networks)])
    given = [message for role, message in lane.take() if role == "tun-reader"]
    parts = [message.networks for message in given if isinstance(message, AllowIps)]
    assert [len(part) for part in parts] == [most, most, 1]
    assert all(len(packing.pack(message)) < messages.MESSAGE_BYTES_MAX for message in given)
    assert [address for part in parts for address, _ in part] == [
        ip_network(network).network_address.packed for network in networks
    ]


def test_a_configured_keepalive_comes_before_a_pushed_one() -> None:
    peer_slots = PeerSlots(RecordingLane().as_lane())
    own = Peer(name="own", public_key=bytes(32), keepalive_s=5)
    pushed = Peer(name="pushed", public_key=bytes([1] * 32))
    peer_slots.replace([own, pushed])
    for peer in (own, pushed, Peer(name="gone", public_key=bytes([2] * 32))):
        peer_slots.push_keepalive(peer, 25)
    assert [slotted.keepalive_s for slotted in peer_slots.by_slot.values()] == [5, 25]
    peer_slots.push_keepalive(pushed, 0)
    assert peer_slots.by_slot[1].keepalive_s is None
