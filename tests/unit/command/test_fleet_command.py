"""`fastun fleet`, `fastun peer export` and `import`: a server joins a fleet, and leaves it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.command import fleet, keys, peer_transfer, peers
from fastun.errors import ConfigError
from fastun.fleet.opened import opened
from fastun.peers import server_key
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore

if TYPE_CHECKING:
    from tests.support.postgres import Cluster

A = Peer(name="a", public_key=b"a" * 32, preshared_key=b"p" * 32)


def names(state: Path) -> list[str]:
    with opened(state) as directory:
        return [peer.name for peer in directory.peers()]


def test_a_server_joins_a_fleet_and_leaves_it(
    postgres: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, state = postgres.peer_directory(), tmp_path / "state"
    with PeerStore(state) as store:
        store.add(A)
        store.remember_server_key(b"k" * 32)
    fleet.prepare(url)
    assert "up to date" in capsys.readouterr().err
    fleet.join(url, state)
    assert capsys.readouterr().err == f"1 peer moved; --state {state} is of the fleet now\n"
    other = tmp_path / "other"
    fleet.join(url, other)
    peers.remove("a", other)
    assert "all gateways of the fleet are notified" in capsys.readouterr().err
    assert names(state) == names(other) == []
    keys.forget_server_key(other)
    with opened(state) as directory:
        assert directory.server_key() == server_key.FORGOTTEN
    fleet.leave(state)
    assert names(state) == ["a"]  # no gateway runs that would have followed
    with pytest.raises(ConfigError, match="belongs to no fleet"):
        fleet.leave(state)
    with pytest.raises(ConfigError, match="contains no peer directory"):
        fleet.leave(tmp_path / "nothing")


@pytest.mark.parametrize("url", ["mysql:///x", "postgresql://a:hunter2@db/x"])
def test_what_does_not_name_a_directory_is_refused(url: str, tmp_path: Path) -> None:
    for call in (lambda: fleet.prepare(url), lambda: fleet.join(url, tmp_path)):
        with pytest.raises(ConfigError, match=r"^URL: ") as caught:
            call()
        assert "hunter2" not in str(caught.value)


def test_all_peers_are_exported_and_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with PeerStore(tmp_path / "one") as store:
        store.add(A)
    peer_transfer.export(tmp_path / "one")
    said = capsys.readouterr()
    assert said.err == "1 peer; the lines hold pre-shared keys, keep them secret\n"
    file = tmp_path / "peers.jsonl"
    file.write_text(said.out)
    peer_transfer.import_(file, tmp_path / "two")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(said.out.encode())))
    peer_transfer.import_(None, tmp_path / "two")
    assert capsys.readouterr().err == "1 peer added\n0 peers added, 1 are there already\n"
    with PeerStore(tmp_path / "two") as store:
        assert store.peers() == (A,)
    with pytest.raises(ConfigError, match="cannot read"):
        peer_transfer.import_(tmp_path / "nothing", tmp_path / "two")
