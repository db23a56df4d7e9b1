"""Small files of the state directory: made or replaced as a whole, and read up to a limit."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import Protocol

from fastun import service_user


class StateFiles(Protocol):
    """Files of the state directory, by their names. Any thread. All raise OSError."""

    def read(self, name: str, bytes_max: int) -> bytes:
        """As `read`."""

    def replace(self, name: str, content: bytes, *, is_durable: bool = False) -> None:
        """As `replace`."""

    def path(self, name: str) -> str:
        """Return where it is, for people."""


class OwnFiles:
    """StateFiles of a directory that this process may write to."""

    def __init__(self, directory: Path) -> None:
        """Look into it when there is something to do."""
        self._directory = directory

    def read(self, name: str, bytes_max: int) -> bytes:
        """As `read`."""
        return read(self._directory / name, bytes_max)

    def replace(self, name: str, content: bytes, *, is_durable: bool = False) -> None:
        """As `replace`."""
        replace(self._directory / name, content, is_durable=is_durable)

    def path(self, name: str) -> str:
        """Return where it is."""
        return str(self._directory / name)


def read(path: Path, bytes_max: int) -> bytes:
    """Return what is in the file, cut to ``bytes_max``. Raises OSError.

    Whatever is there in its place, a pipe for example, does not hold us up.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(descriptor, bytes_max)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes, *, is_durable: bool = False) -> None:
    """Write the file, for its owner only. Raises OSError.

    A crash of the host may undo it, or, unless it ``is_durable``, leave it empty.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of the service that owns the directory root follows and overwrites nothing there.
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            service_user.give(file.fileno(), path.parent)
            file.write(content)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def make(path: Path, content: bytes) -> None:
    """Make a new durable file, for its owner only, whole or not at all.

    It has no name before it is complete, so that a kill leaves nothing; where the file system has
    no such files, a kill may leave one with another name. Raises OSError, FileExistsError where
    there is a file already.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        made, temporary = _begin(path.name, directory)
        try:
            with os.fdopen(made, "wb") as file:
                service_user.give(made, path.parent)
                file.write(content)
                file.flush()
                os.fsync(made)
                # Unlike a rename, a link never replaces what is there.
                os.link(
                    temporary or f"/proc/self/fd/{made}",
                    path.name,
                    src_dir_fd=directory,
                    dst_dir_fd=directory,
                    # The service that owns the directory could put a link in the other's place.
                    follow_symlinks=temporary is None,
                )
        finally:
            if temporary is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=directory)
        os.fsync(directory)
    finally:
        os.close(directory)


def _begin(name: str, directory: int) -> tuple[int, str | None]:
    """Return a new file's descriptor, and its name for the time being if it needs one."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=directory), None
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # NFS, and old overlay file systems
            raise
    temporary = f".{name}.{secrets.token_hex(8)}"
    return os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory), temporary
