"""The system user ``fastun``: that of the services, which root's commands work for.

A service runs as this user and owns the state directory (fastun.service has its units). `fastun
peer add`, by root, reads what the service has written there, and what it makes is for the service
to read. So root trusts this user's files, and gives it what it makes in its directories.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import Final, NamedTuple

NAME: Final = "fastun"

_PASSWD: Final = Path("/etc/passwd")


class Numbers(NamedTuple):
    """A user's number, and that of its group."""

    user: int
    group: int


def find() -> Numbers | None:
    """Return the user, None where this host has none. By this host's file: see host/users.py."""
    try:
        text = _PASSWD.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, user, group = [*line.split(":"), "", "", ""][:4]
        if name == NAME and user.isdecimal() and group.isdecimal() and int(user) != 0:
            return Numbers(int(user), int(group))
    return None


def how_to_let_it_read(path: Path) -> str:
    """Return the rest of a complaint where this process is the service; empty where not."""
    service = find()
    if service is None or service.user != os.geteuid():
        return ""
    quoted = shlex.quote(str(path))
    return f"; run: chgrp {NAME} {quoted} && chmod 640 {quoted}"


def give(made: int, directory: Path) -> None:
    """Give what root has made, an open file or directory, to the service that owns its directory.

    But for a file that has another name as well: the service could have linked one of root's there.
    Raises OSError.
    """
    if os.geteuid() != 0:
        return
    owner, status = directory.stat().st_uid, os.fstat(made)
    if owner == 0 or (service := find()) is None or service.user != owner:
        return
    if status.st_nlink <= 1 or stat.S_ISDIR(status.st_mode):
        os.fchown(made, *service)


def give_directory(directory: Path) -> None:
    """Give a directory to the service that owns the one above it. Raises OSError."""
    made = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        give(made, directory.parent)
    finally:
        os.close(made)
