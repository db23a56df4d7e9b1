"""PeerSync: what a server pushes to each peer, and which peers are removed."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from fastun import log, native
from fastun.config.push import Push
from fastun.config.settings import Options, Settings, load
from fastun.errors import ConfigError, RuntimeFailure
from fastun.gateway.peer_sync import PeerSync
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def hidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Note that the process would have hidden its memory; pytest's own stays open to debuggers."""
    calls: list[bool] = []
    monkeypatch.setattr(native, "hide_memory", lambda: calls.append(True))
    log.configure("console", 0)
    yield calls
    structlog.reset_defaults()


def peer(name: str, *prefixes: str) -> Peer:
    return Peer(
        name=name,
        public_key=name.encode().ljust(32, b"."),
        allowed_ips=tuple(map(ip_network, prefixes)),
    )


def settings(**fields: Any) -> Settings:
    plain = load("serve", None, Options(wire="plain", insecure=True))
    return dataclasses.replace(plain, **fields)


def peer_slots() -> PeerSlots:
    return PeerSlots(RecordingLane().as_lane())


# -- what is pushed ---------------------------------------------------------------------------


def pushed_to(*prefixes: str) -> Push:
    addresses = (ip_interface("10.9.0.1/24"), ip_interface("fd00:9::1/64"))
    peer_sync = PeerSync(settings(addresses=addresses, mtu=1400), peer_slots())
    return peer_sync.push_to(SlottedPeer(0, peer("ant", *prefixes)))


def test_a_client_is_given_its_addresses_the_way_to_ours_and_the_mtu() -> None:
    push = pushed_to("10.9.0.2/32", "fd00:9::2/128")
    assert push.addresses == ("10.9.0.2/24", "fd00:9::2/64")
    assert push.routes == ("10.9.0.0/24", "fd00:9::/64")
    assert push.mtu == 1400


@pytest.mark.parametrize("prefix", ["10.9.0.0/28", "192.168.7.0/24", "192.168.7.7/32", "::/0"])
def test_a_network_behind_a_client_is_not_an_address_of_it(prefix: str) -> None:
    assert pushed_to(prefix).addresses == ()


# -- who belongs to us ------------------------------------------------------------------------


def serving(tmp_path: Path, *peers: Peer) -> Settings:
    """Settings of a server with its state below `tmp_path`."""
    return settings(
        wire="wireguard",
        peers=peers,
        state_dir=tmp_path,
        addresses=(ip_interface("10.9.0.1/24"),),
    )


def test_an_unsealed_wire_has_one_peer_and_no_key(hidden: list[bool]) -> None:
    slotted_peers = peer_slots()
    with PeerSync(settings(peer_name="ant"), slotted_peers) as peer_sync:
        peer_sync.refresh()
        assert [slotted.peer.name for slotted in slotted_peers.by_slot.values()] == ["ant"]
    assert hidden == []


def test_a_process_that_holds_keys_hides_its_memory(hidden: list[bool], tmp_path: Path) -> None:
    PeerSync(serving(tmp_path), peer_slots())
    assert hidden == [True]


def test_a_server_makes_its_key_once_and_a_client_does_not(tmp_path: Path) -> None:
    first = PeerSync(serving(tmp_path), peer_slots())
    assert PeerSync(serving(tmp_path), peer_slots()).own == first.own
    assert (tmp_path / "private.key").stat().st_mode & 0o777 == 0o600
    plain = load("connect", "tcp://server", Options(wire="plain", insecure=True))
    client = dataclasses.replace(plain, wire="wireguard", state_dir=tmp_path / "other")
    with pytest.raises(ConfigError):
        PeerSync(client, peer_slots())
    assert not (tmp_path / "other").exists()


def test_a_key_in_the_file_is_the_one_that_is_used(tmp_path: Path) -> None:
    given = dataclasses.replace(serving(tmp_path), private_key=bytes([0x11] * 32))
    assert PeerSync(given, peer_slots()).own.private == bytes([0x11] * 32)
    assert not (tmp_path / "private.key").exists()


def test_peers_of_file_and_directory_have_slots_and_removals_are_reported(
    tmp_path: Path,
) -> None:
    gone: list[SlottedPeer] = []
    slotted_peers = PeerSlots(RecordingLane().as_lane(), gone.append)
    with PeerSync(serving(tmp_path, peer("filed", "10.9.0.7/32")), slotted_peers) as peer_sync:
        assert [slotted.peer.name for slotted in slotted_peers.by_slot.values()] == ["filed"]
        with PeerStore(tmp_path) as store:
            store.add(peer("ant", "10.9.0.2/32"))
            peer_sync.refresh()
            assert slotted_peers.holder_of(peer("ant").public_key) is not None
            store.remove("ant")
            peer_sync.refresh()
            assert slotted_peers.holder_of(peer("ant").public_key) is None
            peer_sync.refresh()
    assert [slotted.slot for slotted in gone] == [1]


def test_a_peer_in_a_removed_ones_place_comes_with_the_next_look(tmp_path: Path) -> None:
    slotted_peers = peer_slots()
    with PeerSync(serving(tmp_path), slotted_peers) as peer_sync, PeerStore(tmp_path) as store:
        store.add(peer("ant", "10.9.0.2/32"))
        peer_sync.refresh()
        store.remove("ant")
        store.add(peer("bee", "10.9.0.2/32"))
        peer_sync.refresh()
        assert slotted_peers.by_slot == {}
        peer_sync.refresh()
        assert [slotted.peer.name for slotted in slotted_peers.by_slot.values()] == ["bee"]


def test_a_directory_that_cannot_be_read_leaves_the_peers_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slotted_peers = peer_slots()
    with PeerSync(serving(tmp_path), slotted_peers) as peer_sync:
        with PeerStore(tmp_path) as store:
            store.add(peer("ant", "10.9.0.2/32"))
        peer_sync.refresh()
        (tmp_path / "peers.sqlite").write_bytes(b"not a database" * 100)
        for n_said in (0, 1, 0):  # once; and the first may just have met a change
            peer_sync.refresh()
            assert capsys.readouterr().err.count("cannot read the peer directory") == n_said
        assert slotted_peers.holder_of(peer("ant").public_key) is not None


def test_a_look_that_fails_is_made_up_for_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slotted_peers = peer_slots()
    with PeerStore(tmp_path) as store, PeerSync(serving(tmp_path), slotted_peers) as peer_sync:
        store.add(peer("ant", "10.9.0.2/32"))
        peer_sync.refresh()
        read = PeerStore.changes_since
        for _ in range(2):
            assert slotted_peers.holder_of(peer("ant").public_key) is not None
            store.remove("ant")
            monkeypatch.setattr(PeerStore, "changes_since", _busy)
            peer_sync.refresh()
            assert slotted_peers.holder_of(peer("ant").public_key) is not None
            monkeypatch.setattr(PeerStore, "changes_since", read)
            peer_sync.refresh()
            assert slotted_peers.holder_of(peer("ant").public_key) is None
            store.add(peer("ant", "10.9.0.2/32"))
            peer_sync.refresh()
    assert capsys.readouterr().err == "", "each failed once"


def _busy(*_: object) -> tuple[Peer, ...]:
    raise RuntimeFailure("locked by another process for too long; try again")


@pytest.mark.timeout(20)
def test_a_long_change_of_the_directory_does_not_delay_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastun.peers.store_database.LOCK_TIMEOUT_S", 60)
    with PeerSync(serving(tmp_path), peer_slots()) as peer_sync:
        with contextlib.closing(sqlite3.connect(tmp_path / "peers.sqlite")) as hanging:
            hanging.execute("BEGIN EXCLUSIVE")
            peer_sync.refresh()
            hanging.execute("ROLLBACK")
        with PeerStore(tmp_path) as store:
            store.add(peer("ant", "10.9.0.2/32"))
        peer_sync.refresh()


def test_a_peer_with_our_own_address_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="our own address"),
        PeerSync(serving(tmp_path, peer("ant", "10.9.0.1/32")), peer_slots()),
    ):
        pass


def test_a_peer_with_our_own_key_is_refused_at_the_start_and_at_a_reload(tmp_path: Path) -> None:
    with PeerSync(serving(tmp_path), peer_slots()) as peer_sync:
        itself = dataclasses.replace(peer("ant", "10.9.0.2/32"), public_key=peer_sync.own.public)
        with pytest.raises(ConfigError, match="'ant' has our own public key"):
            peer_sync.check(serving(tmp_path, itself))
    with (
        pytest.raises(ConfigError, match="'ant' has our own public key"),
        PeerSync(serving(tmp_path, itself), peer_slots()),
    ):
        pass


def test_how_to_begin_is_logged_only_while_no_peer_may_connect(tmp_path: Path) -> None:
    with PeerSync(serving(tmp_path), peer_slots()) as peer_sync:
        assert peer_sync.first_steps()
    with PeerSync(serving(tmp_path, peer("ant", "10.9.0.2/32")), peer_slots()) as peer_sync:
        assert peer_sync.first_steps() == []
