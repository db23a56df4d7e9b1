"""The file of the peer store: whole from its first moment, and refused where its peers are lost."""

from __future__ import annotations

import contextlib
import sqlite3
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from fastun import service_user
from fastun.errors import ConfigError, FastunError, RuntimeFailure
from fastun.peers import store_file
from fastun.peers.peer import Peer
from fastun.peers.rows import peers_of
from fastun.peers.store import FILE_NAME, PeerStore

if TYPE_CHECKING:
    from pathlib import Path

N_PEERS = 200


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A directory of some pages, closed."""
    with PeerStore(tmp_path) as store, store.changes():
        for number in range(N_PEERS):
            name = f"peer{number}"
            store.add(Peer(name=name, public_key=name.encode().ljust(32, b".")))
    return tmp_path / FILE_NAME


def opened(file: Path) -> int:
    with PeerStore(file.parent) as store:
        return len(store.peers())


def test_a_link_that_is_put_there_meanwhile_makes_no_file_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a service in whose directory root adds a peer could, to where only root can write."""
    state, elsewhere = tmp_path / "state", tmp_path / "nologin"

    def give(_: int, directory: Path) -> None:
        for made in directory.iterdir():
            made.unlink()
        (directory / FILE_NAME).symlink_to(elsewhere)

    monkeypatch.setattr(service_user, "give", give)
    with pytest.raises(FastunError):
        PeerStore(state)
    assert not elsewhere.exists()


def test_nor_does_one_in_place_of_the_file_itself(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = file.with_name("nologin")
    really = store_file.make_private

    def make_private(path: Path) -> None:
        really(path)
        path.unlink()
        path.symlink_to(elsewhere)

    monkeypatch.setattr(store_file, "make_private", make_private)
    with pytest.raises(FastunError):
        PeerStore(file.parent)
    assert not elsewhere.exists()


@pytest.mark.parametrize("suffix", store_file.SUFFIXES)
def test_a_link_in_place_of_what_sqlite_puts_beside_it_is_not_followed(
    file: Path, suffix: str
) -> None:
    """SQLite gives a journal the owner of its database."""
    elsewhere, beside = file.with_name("elsewhere"), file.with_name(f"{file.name}{suffix}")
    beside.unlink(missing_ok=True)
    beside.symlink_to(elsewhere)
    with contextlib.suppress(FastunError), PeerStore(file.parent) as store:
        store.add(Peer(name="another", public_key=b"another".ljust(32, b".")))
    assert not elsewhere.exists()
    elsewhere.write_bytes(b"root's own, and open to root alone")
    elsewhere.chmod(0o600)
    with contextlib.suppress(FastunError), PeerStore(file.parent) as store:
        store.add(Peer(name="a third", public_key=b"third".ljust(32, b".")))
    assert elsewhere.read_bytes() == b"root's own, and open to root alone"


def test_an_empty_file_is_not_a_directory_without_peers(file: Path) -> None:
    assert opened(file) == N_PEERS
    file.write_bytes(b"")
    with pytest.raises(RuntimeFailure, match=r"peers\.sqlite: empty, .*backup.*remove it"):
        opened(file)
    assert file.read_bytes() == b"", "left as it was"


@pytest.mark.parametrize("kept", [1, 15, 16, 100, 511, 4096, 8192, -4096])
def test_a_file_of_which_a_part_is_lost_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    said = r"peers\.sqlite: (damaged|not a peer directory); restore it from a backup"
    with pytest.raises(RuntimeFailure, match=said):
        opened(file)


@pytest.mark.parametrize("start", [0, 4096, 12288])
def test_a_file_with_a_page_of_zeros_is_refused(file: Path, start: int) -> None:
    content = bytearray(file.read_bytes())
    content[start : start + 4096] = bytes(4096)
    file.write_bytes(content)
    with pytest.raises(RuntimeFailure, match=r"peers\.sqlite: damaged"):
        opened(file)


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (x)")
    path.chmod(0o600)
    with pytest.raises(RuntimeFailure, match="not a peer directory; restore"):
        opened(path)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


@pytest.mark.parametrize("kind", ["directory", "dangling link", "open to others"])
def test_what_cannot_be_the_file_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / FILE_NAME
    match kind:
        case "directory":
            path.mkdir()
        case "dangling link":
            path.symlink_to(tmp_path / "unmounted" / FILE_NAME)
        case _:
            PeerStore(tmp_path).close()
            path.chmod(0o644)
    with pytest.raises(FastunError) as caught:
        opened(path)
    assert FILE_NAME in str(caught.value)
    assert "; " in str(caught.value), "what to do"
    assert isinstance(caught.value, ConfigError | RuntimeFailure)


def test_a_start_that_is_killed_midway_leaves_no_file_by_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        seen.append([path.name for path in tmp_path.iterdir()])
        raise Killed

    monkeypatch.setattr(store_file.os, "link", killed)
    with pytest.raises(Killed):
        PeerStore(tmp_path)
    monkeypatch.undo()
    assert FILE_NAME not in seen[0]
    assert opened(tmp_path / FILE_NAME) == 0


def test_what_one_more_peer_costs_does_not_grow_with_their_number(tmp_path: Path) -> None:
    """In instructions of SQLite's machine and in rows that are read, whatever else runs."""
    n_steps, read = 0, []

    def step() -> int:
        nonlocal n_steps
        n_steps += 1
        return 0

    def add(n: int) -> int:
        before = n_steps
        addresses = (ip_network(f"10.0.{n >> 8}.{n & 255}/32"), ip_network(f"fd00::{n:x}/128"))
        store.add(Peer(name=f"p{n}", public_key=n.to_bytes(32, "big"), allowed_ips=addresses))
        return n_steps - before

    with PeerStore(tmp_path) as store, store.changes(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "fastun.peers.store.peers_of", lambda rows: read.extend(rows) or peers_of(rows)
        )
        store._database.set_progress_handler(step, 1)  # noqa: SLF001 (nothing else counts them)
        of_first, *_ = (add(n) for n in range(10))
        *_, of_last = (add(n) for n in range(10, 3000))
    assert 0 < of_last < 2 * of_first
    assert read == []
