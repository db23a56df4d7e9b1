"""The run directory: whose it may be, and one start at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fastun.errors import RuntimeFailure
from fastun.host import run_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def is_locked_once(directory: Path) -> bool:
    """Take and leave the lock: whether it kept another out meanwhile."""

    with run_directory.locked(directory):
        return run_directory.take_lock(directory / run_directory.LOCK_NAME) is None


@contextmanager
def another_start(directory: Path) -> Iterator[Path]:
    """The lock that another gateway has while it makes its socket."""
    lock = directory / run_directory.LOCK_NAME
    descriptor = run_directory.take_lock(lock)
    assert descriptor is not None
    try:
        yield lock
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_one_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(RuntimeFailure, match=f"^--run-dir {tmp_path}: others may write to it; "):
        run_directory.check(tmp_path)


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_one_that_others_may_only_read_is_not(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    run_directory.check(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make another user's directory")
def test_one_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, -1)
    with pytest.raises(RuntimeFailure, match="others may write to it"):
        run_directory.check(tmp_path)


def test_a_user_who_may_only_read_it_does_not_hold_up_a_start(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    assert is_locked_once(tmp_path)
    os.close(directory)


def test_nothing_is_left_of_the_lock(tmp_path: Path) -> None:
    assert is_locked_once(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_start_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_directory, "LOCK_TIMEOUT_S", 0.3)
    with another_start(tmp_path) as lock:
        with pytest.raises(RuntimeFailure, match=f"^--run-dir {tmp_path}: another start has held "):
            is_locked_once(tmp_path)
        assert lock.exists()
    assert is_locked_once(tmp_path)  # it has ended without a word


def test_a_lock_that_was_removed_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that waited on a file which another removes would hold a lock that has no effect."""
    lock, take = tmp_path / run_directory.LOCK_NAME, fcntl.flock
    removed = []

    def remove_first(descriptor: int, operation: int) -> None:
        take(descriptor, operation)
        if not removed:
            removed.append(lock)
            lock.unlink()

    monkeypatch.setattr(fcntl, "flock", remove_first)
    assert is_locked_once(tmp_path)


def test_no_other_user_can_open_the_lock(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with another_start(tmp_path) as lock:
            assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / run_directory.LOCK_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        run_directory.take_lock(tmp_path / run_directory.LOCK_NAME)
    assert not (tmp_path / "elsewhere").exists()
