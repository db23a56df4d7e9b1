"""A service that has been taken over names a database of its own: root's password stays at home."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from fastun.fleet.as_owner import as_owner
from fastun.peers.store import FILE_NAME, PeerStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose password it is")

NOBODY = 65534
# The command, on a host whose services run as that user.
PROGRAM = (
    "from fastun import service_user\n"
    f"service_user.find = lambda: service_user.Numbers({NOBODY}, {NOBODY})\n"
    "from fastun.command.cli import main\n"
    "main()"
)
CLEAR_TEXT = struct.pack("!cII", b"R", 8, 3)  # AuthenticationCleartextPassword


class Asking:
    """A server that asks for the password as PostgreSQL does, and records what it gets."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.asked = 0
        self.told = b""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                connection.recv(4096)
                connection.sendall(CLEAR_TEXT)
                self.asked += 1
                try:
                    self.told += connection.recv(4096)
                except TimeoutError:
                    continue


@pytest.fixture
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.mark.parametrize("owner", [0, NOBODY])
@pytest.mark.parametrize("kept_in", ["passfile", "environment"])
def test_a_service_s_database_gets_no_password_of_root(
    tmp_path: Path, copy: Path, owner: int, kept_in: str
) -> None:
    """But where root owns the copy it is root who has named the database."""
    fake = Asking()
    environment = dict(os.environ, HOME=str(tmp_path))
    if kept_in == "environment":
        environment["PGPASSWORD"] = "root's own"
    else:
        (tmp_path / ".pgpass").touch(mode=0o600)
        (tmp_path / ".pgpass").write_text("*:*:*:*:root's own\n", encoding="ascii")
    where = f"hostaddr=127.0.0.1&port={fake.port}&sslmode=disable&gssencmode=disable"
    with PeerStore(copy) as store:
        store.remember_original(f"postgresql://fastun@db.internal/fastun?{where}")
    for path in (copy, *copy.iterdir()):
        os.chown(path, owner, owner)
    command = [sys.executable, "-c", PROGRAM, "peer", "list", "--state", str(copy)]
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=30
    )
    fake.listener.close()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert fake.asked, done.stderr
    assert (b"root's own" in fake.told) is (owner == 0), done.stderr


def test_it_is_root_again_with_all_that_root_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSFILE", "/root/pgpass")
    (tmp_path / FILE_NAME).touch()
    os.chown(tmp_path / FILE_NAME, NOBODY, NOBODY)
    before = (os.getresuid(), os.getresgid(), os.getgroups(), dict(os.environ))
    seen: list[tuple[int, int, list[int], bool]] = []

    def fail() -> None:
        with as_owner(tmp_path / FILE_NAME):
            seen.append((os.geteuid(), os.getegid(), os.getgroups(), "PGPASSFILE" in os.environ))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [(NOBODY, NOBODY, [NOBODY], False)]
    assert (os.getresuid(), os.getresgid(), os.getgroups(), dict(os.environ)) == before
