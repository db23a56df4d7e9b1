"""What changes of a directory leads to the same peers, slots and addresses as all of it anew."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastun.endpoint import Endpoint
from fastun.lane.messages import AllowIps, ChangeIps, ForgetIps
from fastun.link import peer_slots
from fastun.link.peer_slots import NO_SLOT, PeerSlots
from fastun.link.slot_ips import Ip, packed
from fastun.peers.peer import Peer
from fastun.session.refusal import HandshakeError
from tests.support.recording_lane import RecordingLane

N_SLOTS = 4
NAMES = "abcdefg"


class Workers:
    """The addresses that a worker has been given, by whose they are."""

    def __init__(self) -> None:
        self.owners: dict[Ip, int] = {}

    def take(self, message: object) -> None:
        if isinstance(message, AllowIps):
            self.owners |= dict.fromkeys(message.networks, message.slot)
        elif isinstance(message, ChangeIps):
            self.owners |= {(address, length): slot for slot, address, length in message.added}
            for slot, address, length in message.removed:
                if self.owners.get((address, length)) == slot:
                    del self.owners[address, length]
        elif isinstance(message, ForgetIps):
            self.owners = {ip: slot for ip, slot in self.owners.items() if slot != message.slot}


class Gateway:
    """Slots that are few, with their workers and a clock."""

    def __init__(self) -> None:
        self.lane = RecordingLane()
        self.lane.peers.read = lambda *_: 0
        self.workers = Workers()
        self.slots = PeerSlots(self.lane.as_lane())
        self.known: dict[str, Peer] = {}

    def settle(self, are_all_in: bool) -> None:
        """Look again until all have their places, as the gateway does."""
        for _ in range(3):
            if are_all_in:
                break
            are_all_in = self.slots.replace(self.known.values())
        assert are_all_in
        for role, message in self.lane.take():
            if role == "tun-reader":
                self.workers.take(message)

    def check(self) -> None:
        wanted = {peer.public_key: peer for peer in self.known.values()}
        holders = [self.slots.holder_of(key) for key in wanted]
        assert [holder and holder.peer for holder in holders] == [*wanted.values()]
        assert self.slots.n_peers == len(wanted)
        owners = {
            packed(network): holder.slot
            for holder in holders
            if holder is not None
            for network in holder.peer.allowed_ips
        }
        assert self.workers.owners == owners
        in_slots = {slotted.slot: slotted for slotted in holders if slotted and slotted.slot < 1024}
        assert self.slots.by_slot == in_slots
        assert self.slots.absent.keys() == wanted.keys() - {
            slotted.peer.public_key for slotted in in_slots.values()
        }
        if len(wanted) <= N_SLOTS:
            assert not self.slots.absent


@pytest.fixture
def few_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_slots, "PEER_SLOTS", N_SLOTS)
    monkeypatch.setattr(peer_slots, "FREE_SLOTS", 1)


PEERS = st.builds(
    lambda key, ips, is_site, keepalive: (key, ips, is_site, keepalive),
    st.sampled_from(NAMES),
    st.lists(st.integers(1, 9), unique=True, max_size=2),
    st.booleans(),
    st.integers(0, 1),
)
CHANGES = st.dictionaries(st.sampled_from(NAMES), st.one_of(st.none(), PEERS), max_size=3)


def peer(name: str, what: Any) -> Peer:
    key, ips, is_site, keepalive = what
    return Peer(
        name=name,
        public_key=key.encode() * 32,
        allowed_ips=tuple(ip_network(f"10.9.0.{n}") for n in ips),
        endpoints=(Endpoint("udp", "192.0.2.1", 51820),) if is_site and name in "ab" else (),
        keepalive_s=keepalive,
    )


def together(known: dict[str, Peer], changes: dict[str, Any]) -> dict[str, Peer]:
    """Return what a directory has then: of two that share something, the first."""
    after: dict[str, Peer] = {}
    taken: set[object] = set()
    for name in sorted({*known, *changes}):
        what = changes.get(name, known.get(name))
        if what is None:
            continue
        one = what if isinstance(what, Peer) else peer(name, what)
        if taken.isdisjoint(has := {one.public_key, *one.allowed_ips}):
            after[name] = one
            taken |= has
    return after


@pytest.mark.usefixtures("few_slots")
@settings(
    max_examples=3 * settings().max_examples,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.tuples(CHANGES, st.booleans(), st.sampled_from(NAMES)), min_size=1, max_size=10
    )
)
def test_changes_lead_to_what_all_peers_anew_would_have_led_to(steps: list[Any]) -> None:
    gateway = Gateway()
    for changes, is_all, comes in steps:
        before, after = gateway.known, together(gateway.known, changes)
        gateway.known = after
        if is_all:
            gateway.settle(gateway.slots.replace(after.values()))
        else:
            changed = [one for name, one in after.items() if before.get(name) != one]
            was = {one.public_key for name, one in before.items() if after.get(name) != one}
            gone = was - {one.public_key for one in after.values()}
            gateway.settle(gateway.slots.change(changed, gone))
        gateway.check()
        holder = gateway.slots.holder_of(comes.encode() * 32)
        if holder is not None:  # a peer without a slot has a handshake
            try:
                gateway.slots.in_slot(holder)
            except HandshakeError:
                gateway.slots.make_room()
            gateway.settle(are_all_in=True)
            gateway.check()


@pytest.mark.usefixtures("few_slots")
def test_a_change_of_one_says_nothing_of_the_others() -> None:
    gateway = Gateway()
    gateway.known = {name: peer(name, (name, [n], False, 0)) for n, name in enumerate(NAMES, 1)}
    gateway.settle(gateway.slots.replace(gateway.known.values()))
    assert len(gateway.slots.absent) == len(NAMES)
    assert gateway.slots.change([peer("c", ("c", [9], False, 0))], [b"d" * 32])
    said = [message for role, message in gateway.lane.take() if role == "tun-reader"]
    (three, four, nine) = (packed(ip_network(f"10.9.0.{n}")) for n in (3, 4, 9))
    assert said == [
        ChangeIps(added=(), removed=((NO_SLOT, *four), (NO_SLOT, *three))),
        AllowIps(NO_SLOT, (nine,)),
    ]
