"""Allowed IPs that change while packets flow, against a model of what a worker gets.

A worker may run between any two messages. Between a list of peers and the next, each prefix leads
to its peer of before or of after: never to a third one, and never to none while both have it.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from fastun.lane.messages import AllowIps, ChangeIps, ForgetIps
from fastun.link import slot_ips
from fastun.link.peer_slots import PeerSlots
from fastun.link.slot_ips import packed
from fastun.peers.peer import Network, Peer
from tests.support.recording_lane import RecordingLane

Table = dict[tuple[bytes, int], int]

NETWORKS = [ip_network(f"10.{n}.0.0/16") for n in range(6)]
KEYS = [bytes([n]) * 32 for n in range(5)]


@st.composite
def peer_lists(draw: st.DrawFn) -> list[Peer]:
    """Return peers of which no two share a prefix, as the settings allow."""
    owners = draw(
        st.lists(
            st.one_of(st.none(), st.sampled_from(KEYS)),
            min_size=len(NETWORKS),
            max_size=len(NETWORKS),
        )
    )
    return [
        Peer(
            name=f"peer{key[0]}",
            public_key=key,
            preshared_key=draw(st.sampled_from([None, None, bytes(32)])),
            allowed_ips=tuple(
                network for network, owner in zip(NETWORKS, owners, strict=True) if owner == key
            ),
        )
        for key in draw(st.lists(st.sampled_from(KEYS), unique=True))
    ]


def act(table: Table, message: object) -> None:
    """Do with a message what csrc/host/allowedips.c does."""
    if isinstance(message, AllowIps):
        table.update(dict.fromkeys(message.networks, message.slot))
    elif isinstance(message, ForgetIps):
        for each in [each for each, slot in table.items() if slot == message.slot]:
            del table[each]
    elif isinstance(message, ChangeIps):
        table.update({(address, length): slot for slot, address, length in message.added})
        for slot, address, length in message.removed:
            if table.get((address, length)) == slot:
                del table[address, length]


def owners(peers: list[Peer]) -> dict[Network, bytes]:
    return {network: peer.public_key for peer in peers for network in peer.allowed_ips}


@given(st.lists(peer_lists(), min_size=2, max_size=6), st.sampled_from([1, 2, 256]))
def test_each_prefix_leads_to_its_peer_of_before_or_of_after(
    lists: list[list[Peer]], per_message: int
) -> None:
    lane = RecordingLane()
    slots = PeerSlots(lane.as_lane())
    table: Table = {}
    before: dict[Network, bytes] = {}
    key_of: dict[int, set[bytes]] = {}
    original, slot_ips.NETWORKS_PER_MESSAGE = slot_ips.NETWORKS_PER_MESSAGE, per_message
    try:
        for peers in lists:
            stays = _stays(slots, peers)
            while not slots.replace(peers):
                pass
            for slot, slotted in slots.by_slot.items():
                key_of.setdefault(slot, set()).add(slotted.peer.public_key)
            after = owners(peers)
            for role, message in lane.take():
                if role != "tun-reader":
                    continue
                act(table, message)
                for network in NETWORKS:
                    slot = table.get(packed(network))
                    if slot is None:
                        # Only where the peer of before has gone, or the one of after is new.
                        assert not {before.get(network), after.get(network)} <= stays
                    else:
                        allowed = {before.get(network), after.get(network)} - {None}
                        assert allowed & key_of[slot]
            now = {slotted.peer.public_key: slot for slot, slotted in slots.by_slot.items()}
            assert table == {packed(network): now[key] for network, key in after.items()}
            before = after
    finally:
        slot_ips.NETWORKS_PER_MESSAGE = original


def _stays(slots: PeerSlots, peers: list[Peer]) -> set[bytes]:
    """Return the keys of those that keep their sessions."""
    known = {s.peer.public_key: s.peer.preshared_key for s in slots.by_slot.values()}
    return {p.public_key for p in peers if known.get(p.public_key, p) == p.preshared_key}


def test_a_session_outlives_every_change_but_that_of_a_key() -> None:
    lane = RecordingLane()
    slots = PeerSlots(lane.as_lane())
    peer = Peer(name="ant", public_key=KEYS[0], allowed_ips=(NETWORKS[0],))
    slots.replace([peer])
    slotted = slots.by_slot[0]
    for change in (
        {"name": "bee"},
        {"allowed_ips": ()},
        {"keepalive_s": 20},
    ):
        peer = replace(peer, **change)  # type: ignore[arg-type]
        assert slots.replace([peer])
        assert slots.by_slot[0] is slotted
        assert slotted.peer == peer
