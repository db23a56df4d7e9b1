"""A server that has lost the key its peers know does not start with another one."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from fastun import native
from fastun.command import keys as key_commands
from fastun.command import peers as peer_commands
from fastun.config.settings import Options, ServeSettings, load
from fastun.errors import ConfigError
from fastun.gateway.peer_sync import PeerSync
from fastun.link.peer_slots import PeerSlots
from fastun.peers.peer import Peer
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session import keys
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _open_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "hide_memory", lambda: None)


def serve(state: Path, private_key: bytes | None = None) -> bytes:
    """Start and stop what a server does with its keys and peers; return its public key."""
    settings = load("serve", None, Options(state=state))
    assert isinstance(settings, ServeSettings)
    settings = dataclasses.replace(settings, private_key=private_key)
    with PeerSync(settings, PeerSlots(RecordingLane().as_lane())) as peer_sync:
        return peer_sync.own.public


def add_peer(state: Path, name: str = "laptop") -> None:
    with PeerStore(state) as store:
        store.add(Peer(name=name, public_key=name.encode().ljust(32, b".")))


def test_a_lost_key_is_not_replaced_while_peers_know_it(tmp_path: Path) -> None:
    old = serve(tmp_path)
    add_peer(tmp_path)
    add_peer(tmp_path, "phone")
    key_file = tmp_path / "private.key"
    saved = key_file.read_text()
    key_file.unlink()
    with pytest.raises(ConfigError) as caught:
        serve(tmp_path)
    for words in ("private.key", "missing", "2 peers", keys.format_key(old), "restore", "--forget"):
        assert words in str(caught.value)
    assert not key_file.exists(), "none was made"
    key_file.write_text(saved)
    key_file.chmod(0o600)
    assert serve(tmp_path) == old


def test_a_lost_key_that_no_peer_knows_is_made_anew(tmp_path: Path) -> None:
    old = serve(tmp_path)
    (tmp_path / "private.key").unlink()
    assert serve(tmp_path) != old


def test_another_key_than_the_peers_know_is_refused(tmp_path: Path) -> None:
    old, other = serve(tmp_path), keys.generate_private()
    add_peer(tmp_path)
    with pytest.raises(ConfigError) as caught:
        serve(tmp_path, other)  # of the configuration file
    assert keys.format_key(old) in str(caught.value)
    assert keys.format_key(keys.public_of(other)) in str(caught.value)
    assert keys.format_key(other) not in str(caught.value)


def test_the_peers_of_another_server_are_refused(tmp_path: Path) -> None:
    serve(tmp_path / "one")
    add_peer(tmp_path / "one")
    serve(tmp_path / "two")
    shutil.copy(tmp_path / "one" / FILE_NAME, tmp_path / "two" / FILE_NAME)
    with pytest.raises(ConfigError, match=r"the peer of --state .*two knows this server by"):
        serve(tmp_path / "two")


def test_a_key_is_changed_on_purpose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = serve(tmp_path)
    add_peer(tmp_path)
    key_commands.server_key_of(tmp_path)
    assert capsys.readouterr().out.strip() == keys.format_key(old)
    (tmp_path / "private.key").unlink()
    key_commands.forget_server_key(tmp_path)
    with pytest.raises(ConfigError, match="start 'fastun serve' first"):
        peer_commands.add("phone", (), ("10.55.0.9/24",), "toml", tmp_path)
    new = serve(tmp_path)
    assert new != old
    capsys.readouterr()
    key_commands.server_key_of(tmp_path)
    assert capsys.readouterr().out.strip() == keys.format_key(new)
    (tmp_path / "private.key").unlink()
    with pytest.raises(ConfigError, match="missing"):
        serve(tmp_path)


def test_a_client_added_before_the_first_start_knows_the_key_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = ("udp://192.0.2.1",)
    peer_commands.add("laptop", endpoint, ("10.55.0.2/24",), "toml", tmp_path)
    made = keys.public_of(keys.load_private(tmp_path / "private.key"))
    capsys.readouterr()
    key_commands.server_key_of(tmp_path)
    assert capsys.readouterr().out.strip() == keys.format_key(made)
    (tmp_path / "private.key").unlink()
    with pytest.raises(ConfigError, match="missing, but the peer"):
        serve(tmp_path)
    assert not (tmp_path / "private.key").exists()


def test_a_directory_of_an_older_version_is_protected_too(tmp_path: Path) -> None:
    old = serve(tmp_path)
    add_peer(tmp_path)
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("DELETE FROM fact WHERE name = 'server_key'")
    with PeerStore(tmp_path) as store:
        assert store.server_key() == old
    (tmp_path / "private.key").unlink()
    with pytest.raises(ConfigError, match="missing"):
        serve(tmp_path)


def test_a_state_without_any_key_has_none_to_print(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no server's key; start 'fastun serve'"):
        key_commands.server_key_of(tmp_path)
    with pytest.raises(ConfigError, match="no peer directory"):
        key_commands.forget_server_key(tmp_path)
