"""The run directory, in which each gateway of this host has its control socket.

A socket is made with mode 0600, so only this user and root may connect, and in a directory that
only they may write to.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from typing import TYPE_CHECKING

from fastun import ending, private_file
from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_NAME = ".lock"

# The holder of the lock only makes a socket.
LOCK_TIMEOUT_S = 3.0
_RETRY_S = 0.05


def check(directory: Path) -> None:
    """Raise RuntimeFailure where others could put a socket of their own in our socket's place."""
    status = directory.stat()
    is_foreign = status.st_uid not in private_file.trusted_users()
    if is_foreign or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RuntimeFailure(
            f"--run-dir {directory}: others may write to it; "
            "choose a directory that only this user may write to"
        )


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
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
        time.sleep(_RETRY_S)
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


# -- the socket -------------------------------------------------------------------------------


def socket_path(run_dir: Path, interface: str) -> Path:
    """Return where the gateway of ``interface`` listens."""
    return run_dir / f"{interface}.sock"


def is_alive(path: Path) -> bool:
    """Return whether a gateway listens at ``path``. Raises OSError when that cannot be found."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # its queue of connections is full
            return True
    return True


class ControlSocket:
    """That of one gateway: made, and removed at the end. Blocks for other starts."""

    def __init__(self, path: Path, backlog: int) -> None:
        """Listen at ``path``. Raises RuntimeFailure, AskedToStop."""
        self._path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            check(path.parent)
            with locked(path.parent):
                _clear(path)
                # On Linux the socket's own mode becomes the file's at bind (unix_bind_bsd in
                # net/unix/af_unix.c), so there is no moment at which others could connect.
                os.fchmod(self.listener.fileno(), 0o600)
                self.listener.bind(str(path))
                self.listener.listen(backlog)
                self._ours = identity(path)
        except OSError as error:
            self.listener.close()
            raise RuntimeFailure(
                f"--run-dir {path.parent}: {path.name} cannot be made ({error.strerror}); "
                "choose a directory that this user can write"
            ) from None
        except BaseException:
            self.listener.close()
            raise

    def close(self) -> None:
        """Close it here, and remove it, but not one that took its place."""
        self.listener.close()
        if identity(self._path) == self._ours:
            self._path.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Remove the socket of a gateway that was killed. Raises RuntimeFailure for anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise RuntimeFailure(f"{path} is in the way; remove it, or choose another --run-dir")
    if is_alive(path):
        raise RuntimeFailure(
            f"another gateway listens on {path}; stop it, or choose another --run-dir"
        )
    path.unlink()
