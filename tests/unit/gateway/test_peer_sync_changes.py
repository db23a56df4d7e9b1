"""PeerSync applies what has changed in the directory, and ends where one that reads all would."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastun import log, native
from fastun.config.settings import Options, ServeSettings, load
from fastun.errors import ConfigError
from fastun.gateway.peer_sync import PeerSync
from fastun.link.peer_slots import PeerSlots
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.peers.terms import Terms
from fastun.session import keys
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = time.time()
FILED = Peer(name="filed", public_key=b"f" * 32, allowed_ips=(ip_network("10.8.0.9"),))
NAMES = "abcd"


def serving(state: Path) -> ServeSettings:
    plain = load("serve", None, Options(state=state))
    assert isinstance(plain, ServeSettings)
    own = (ip_interface("10.9.0.1/24"),)
    return replace(plain, addresses=own, peers=(FILED,))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(native, "hide_memory", lambda: None)
    log.configure("console", 0)
    return tmp_path


@contextlib.contextmanager
def opened(state: Path) -> Iterator[tuple[PeerSync, PeerSlots]]:
    slots = PeerSlots(RecordingLane().as_lane())
    with PeerSync(serving(state), slots) as peer_sync:
        yield peer_sync, slots


def seen(peer_sync: PeerSync, slots: PeerSlots) -> dict[str, Any]:
    """Return what peers there are, which of them may connect, and what is routed."""
    of_peers = [bytes([n]) * 32 for n in range(1, 5)]
    return {
        "admitted": {s.peer for s in slots.by_slot.values()},
        "n": slots.n_peers,
        "barred": slots.barred,
        "behind": {*peer_sync.behind},
        "of": [peer_sync.behind_of(frozenset([key])) for key in [*of_peers, FILED.public_key]],
    }


TERMS = st.sampled_from(
    [Terms(), Terms(enabled=False), Terms(expires=int(NOW) - 9), Terms(expires=int(NOW) + 9**9)]
)
PEERS = st.builds(
    lambda name, key, ips, terms: Peer(
        name=name,
        public_key=bytes([key]) * 32,
        allowed_ips=tuple(map(ip_network, ips)),
        terms=terms,
    ),
    st.sampled_from(NAMES),
    st.integers(1, 4),
    st.lists(st.sampled_from(["10.9.0.2", "10.8.0.0/24", "10.7.0.0/24", "10.8.0.9"]), unique=True),
    TERMS,
)
STEPS = st.tuples(
    st.sampled_from(["add", "replace", "remove", "replace"]),
    st.sampled_from(NAMES),
    PEERS,
    st.booleans(),
)


@settings(
    max_examples=settings().max_examples * 3 // 5,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, min_size=1, max_size=8))
def test_changes_lead_to_what_reading_all_leads_to(state: Path, steps: list[Any]) -> None:
    with PeerStore(state) as store:
        for peer in store.peers():
            store.remove(peer.name)
        with opened(state) as (following, slots):
            for kind, name, peer, is_looked_at in steps:
                try:
                    if kind == "add":
                        store.add(peer)
                    elif kind == "replace":
                        store.replace(name, peer)
                    else:
                        store.remove(name)
                except ConfigError:
                    continue
                if is_looked_at:
                    look(following)
            look(following)
            with opened(state) as anew:
                assert seen(following, slots) == seen(*anew)


def look(peer_sync: PeerSync) -> None:
    for _ in range(3):  # a slot that has become free is another's the next time
        peer_sync.refresh()


def test_of_many_peers_one_that_changes_is_read_and_no_other(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.load_or_make_private(state / "private.key")
    with PeerStore(state) as store:
        store.copy([Peer(name=f"p{n}", public_key=n.to_bytes(32)) for n in range(1, 2000)], [])
        with opened(state) as (peer_sync, slots):
            read: list[int] = []
            changes_since = PeerStore.changes_since

            def counted(self: PeerStore, version: int) -> Any:
                found = changes_since(self, version)
                assert found is not None
                read.append(len(found.peers) + len(found.gone))
                return found

            monkeypatch.setattr(PeerStore, "changes_since", counted)
            monkeypatch.setattr(PeerStore, "peers", None)
            n_fills = peer_sync.n_fills
            store.add(Peer(name="more", public_key=b"m" * 32))
            peer_sync.refresh()
            store.remove("p7")
            peer_sync.refresh()
            peer_sync.refresh()
            assert read == [1, 1]
            assert peer_sync.n_fills == n_fills + 2
            holders = [slots.holder_of(key) for key in (b"m" * 32, bytes([7]))]
            assert [holder and holder.peer.name for holder in holders] == ["more", None]


def test_what_conflicts_with_the_file_changes_nothing_and_is_tried_again(state: Path) -> None:
    with PeerStore(state) as store, opened(state) as (peer_sync, slots):
        with store.changes():  # past what `peer add` checks
            store.copy([replace(FILED, name="a")], [])
        before = seen(peer_sync, slots)
        peer_sync.refresh()
        assert seen(peer_sync, slots) == before
        store.replace("a", Peer(name="a", public_key=b"\1" * 32))
        peer_sync.refresh()
        assert seen(peer_sync, slots)["n"] == 2
