"""A server whose key or peers are lost says so and does not start as if it were new."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fastun.peers.peer import Peer
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session import keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastun.lab.network import Lab


def _lose(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _overwrite(path: Path) -> None:
    path.write_bytes(b"\xff" * 9000)


def _make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def _open_to_others(path: Path) -> None:
    path.chmod(0o644)


KEY, PEERS = "private.key", FILE_NAME

CASES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "lost key": (KEY, _lose, "restore the file from a backup"),
    "empty key": (KEY, _empty, "restore it from a backup"),
    "damaged key": (KEY, _overwrite, "not a key"),
    "a directory for a key": (KEY, _make_directory, "not a file"),
    "key open to others": (KEY, _open_to_others, "chmod 600"),
    "empty peers": (PEERS, _empty, "restore it from a backup"),
    "damaged peers": (PEERS, _overwrite, "restore it from a backup"),
    "a directory for peers": (PEERS, _make_directory, "not a file"),
    "peers open to others": (PEERS, _open_to_others, "chmod 600"),
}


@pytest.mark.promise(
    "A server whose key or directory is lost or damaged does not start as a new one"
)
@pytest.mark.parametrize("case", CASES)
def test_a_server_that_has_lost_its_state_does_not_start_as_new(
    lab: Lab, tmp_path: Path, case: str
) -> None:
    host = lab.host("server")
    name, damage, what_to_do = CASES[case]
    private = keys.generate_private()
    keys.store_private(tmp_path / KEY, private)
    with PeerStore(tmp_path) as store:
        store.add(Peer(name="laptop", public_key=b"k" * 32))
        store.remember_server_key(keys.public_of(private))
    damage(tmp_path / name)
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments = ("--state", str(tmp_path), "--run-dir", str(tmp_path))
    enter = ("ip", "netns", "exec", host.namespace)
    command = [*enter, sys.executable, "-m", "fastun", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    complaints = [line for line in done.stderr.splitlines() if line.startswith("fastun: ")]
    assert len(complaints) == 1, done.stderr
    assert done.returncode in (1, 2)
    assert name in complaints[0]
    assert what_to_do in complaints[0]
    assert "Traceback" not in done.stderr
    assert "listening" not in done.stderr
    assert sorted({path.name for path in tmp_path.iterdir()} - {"journal"}) == before
