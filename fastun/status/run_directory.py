"""The run directory, in which each gateway of this host has its control socket."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING

from fastun import ending
from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LOCK_NAME = ".lock"

# The holder of the lock only makes a socket.
LOCK_TIMEOUT_S = 3.0
_RETRY_S = 0.05


def check(directory: Path) -> None:
    """Raise RuntimeFailure where others could put a socket of their own in our socket's place."""
    status = directory.stat()
    is_foreign = status.st_uid not in (0, os.geteuid())
    if is_foreign or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RuntimeFailure(
            f"--run-dir {directory}: others may write to it; "
            "choose a directory that only this user may write to"
        )


@contextlib.asynccontextmanager
async def locked(directory: Path) -> AsyncIterator[None]:
    """Keep two gateways that start at once from taking each other's new socket for a stale one.

    The lock is on a file that no other user can open: one on the directory could be taken and kept
    by all that may read it. Raises RuntimeFailure when it cannot be had, OSError when not be made.
    """
    lock = directory / LOCK_NAME
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while (descriptor := take_lock(lock)) is None:
        if time.monotonic() >= deadline:
            raise RuntimeFailure(
                f"--run-dir {directory}: another start has held {LOCK_NAME} for "
                f"{LOCK_TIMEOUT_S:g} s; end that one, or choose another directory"
            )
        ending.check()
        await asyncio.sleep(_RETRY_S)
    try:
        yield
    finally:
        _leave(lock, descriptor)


def take_lock(lock: Path) -> int | None:
    """Return a descriptor that holds the lock, or None while another does."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        if identity(lock) == (status.st_dev, status.st_ino):  # else it was removed since
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _leave(lock: Path, descriptor: int) -> None:
    lock.unlink(missing_ok=True)
    os.close(descriptor)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what identifies the file among others of the same name, None when there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
