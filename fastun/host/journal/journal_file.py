"""One gateway's journal file: lines of JSON, locked for as long as the gateway lives.

journal.py describes the format and purpose. `.lock` of the directory is held while a file is opened
or claimed, so a file that is not locked belongs to a dead gateway.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Final, Self

import msgspec

from fastun import service_user
from fastun.errors import RuntimeFailure
from fastun.host.journal.changes import AnyChange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION: Final = 1

# A gateway makes a handful of changes, of some hundred bytes.
_BYTES_MAX = 256 * 1024

_LOCK_NAME = ".lock"
# No link to another file, and no wait for the writer of a pipe.
_AS_IT_IS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK_LIMIT_S = 3.0  # its holder waits for nothing
_LOCK_RETRY_S = 0.02


class Header(msgspec.Struct, frozen=True, tag_field="kind", tag="header", kw_only=True):
    """The first line: the boot, network namespace and interface of the changes."""

    version: int = VERSION
    boot: str
    netns: int
    interface: str

    def is_like(self, other: Header) -> bool:
        """Return whether both are of one boot and network namespace."""
        return (self.boot, self.netns) == (other.boot, other.netns)


class Undone(msgspec.Struct, frozen=True, tag_field="kind", tag="undone"):
    """The change of this line is undone; the first line after the header is 1."""

    line: int


Pending = dict[int, AnyChange]  # by line

_line_decoder = msgspec.json.Decoder(AnyChange | Undone)
_header_decoder = msgspec.json.Decoder(Header)


class JournalFile:
    """A file that is locked by this process. Close it, or remove it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over a locked descriptor."""
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, directory: Path, header: Header) -> Self:
        """Make a file with its header. Raises OSError."""
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        service_user.give_directory(directory)
        path = directory / f"{header.interface}-{os.urandom(4).hex()}.jsonl"
        with locked(directory):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            file = cls(path, os.open(path, flags, 0o600))
            fcntl.flock(file._descriptor, fcntl.LOCK_EX)
            try:
                file.append(header)
                _sync_directory(directory)
            except OSError:
                file.remove()
                raise
        return file

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """Lock the file of a dead gateway; None where its gateway lives. Raises OSError."""
        with locked(path.parent):
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | _AS_IT_IS)
            if _lock(descriptor):
                return cls(path, descriptor)
            os.close(descriptor)
            return None

    def append(self, record: Header | AnyChange | Undone) -> None:
        """Add a line, and have the disk take it. Raises OSError."""
        line = encode(record)
        if os.write(self._descriptor, line) != len(line):
            raise OSError(None, "no space left")
        os.fsync(self._descriptor)

    def read(self) -> tuple[Header, Pending, str]:
        """Return the header, what is not undone, and what is wrong with the rest, or empty.

        Raises RuntimeFailure for a file whose records cannot be trusted or parsed.
        """
        return _read(self._descriptor)

    def close(self) -> None:
        """Close and unlock the file, and keep it."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Remove the file, and unlock it."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()


def paths(directory: Path) -> list[Path]:
    """Return the files of a directory; none where there is none, or it cannot be read."""
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".jsonl")
    except OSError:
        return []


def living(path: Path) -> tuple[Header, Pending] | None:
    """Return what a living gateway has changed; None for a dead one. Call with `.lock` held."""
    with contextlib.suppress(OSError, RuntimeFailure):
        descriptor = os.open(path, os.O_RDONLY | _AS_IT_IS)
        try:
            return None if _lock(descriptor) else _read(descriptor)[:2]
        finally:
            os.close(descriptor)
    return None


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory's `.lock`; go on without if it cannot be taken in time."""
    descriptor = -1
    with contextlib.suppress(OSError):
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(directory / _LOCK_NAME, flags, 0o600)
        service_user.give(descriptor, directory)
        deadline = time.monotonic() + _LOCK_LIMIT_S
        while not _lock(descriptor) and time.monotonic() < deadline:
            time.sleep(_LOCK_RETRY_S)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> tuple[Header, Pending, str]:
    status = os.fstat(descriptor)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RuntimeFailure("others may write to it; check it, then remove it")
    if not stat.S_ISREG(status.st_mode) or status.st_size > _BYTES_MAX:
        raise RuntimeFailure("not a fastun journal; remove it")
    # What follows the last newline was being written when its writer was killed.
    first, *lines = os.pread(descriptor, _BYTES_MAX, 0).split(b"\n")[:-1] or [b""]
    return _header(first), *parse(lines)


def _header(line: bytes) -> Header:
    try:
        header = _header_decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise RuntimeFailure("damaged; check it, then remove it") from None
    if header.version != VERSION:
        raise RuntimeFailure("written by another version of fastun; start and stop that version")
    return header


def encode(record: Header | AnyChange | Undone) -> bytes:
    """Return a record's line."""
    return msgspec.json.encode(record) + b"\n"


def parse(lines: list[bytes]) -> tuple[Pending, str]:
    """Return what is not undone by the lines after the header, and what is wrong with them."""
    pending: Pending = {}
    complaint = ""
    for number, line in enumerate(lines, 1):
        try:
            record = _line_decoder.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            complaint = f"line {number + 1}: {error}"
            continue
        if isinstance(record, Undone):
            pending.pop(record.line, None)
        else:
            pending[number] = record
    return pending, complaint


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
