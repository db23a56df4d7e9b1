"""New files of the state directory: whole or not at all, also where the process is killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fastun import state_file

if TYPE_CHECKING:
    from pathlib import Path

# Killed where all is written and the file has no name yet.
KILLED = """
import os, pathlib, signal, sys
from fastun import state_file
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
state_file.make(pathlib.Path(sys.argv[1]), b"secret")
"""


def without_nameless_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS has none."""
    really = os.open

    def fail(path: str, flags: int, *rest: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return really(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", fail)


@pytest.fixture(params=[True, False], ids=["nameless", "named"])
def directory(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """On a file system that has files without a name, and on one that has not."""
    if not request.param:
        without_nameless_files(monkeypatch)
    return tmp_path


def test_a_kill_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "private.key"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_it_is_the_owners_alone_under_any_umask(directory: Path) -> None:
    before = os.umask(0)
    try:
        state_file.make(directory / "made", b"content")
    finally:
        os.umask(before)
    (made,) = directory.iterdir()
    assert made.name == "made"
    assert made.read_bytes() == b"content"
    assert made.stat().st_mode & 0o7777 == 0o600


def test_what_is_there_stays(directory: Path) -> None:
    for name, there in (("file", directory / "file"), ("link", directory / "nowhere")):
        path = directory / name
        if name == "file":
            path.write_bytes(b"before")
        else:
            path.symlink_to(there)
        with pytest.raises(FileExistsError):
            state_file.make(path, b"content")
    assert (directory / "file").read_bytes() == b"before"
    assert not (directory / "nowhere").exists()
    assert len(list(directory.iterdir())) == 2


def test_what_cannot_be_written_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        state_file.make(directory / "made", b"content")
    assert list(directory.iterdir()) == []
