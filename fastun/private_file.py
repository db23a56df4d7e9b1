"""Files with keys: checks of their owner, and of others' access to them.

Such a file must belong to root, to the user that runs fastun, or, for root, to the services' user:
another owner could change it whatever its mode. The same applies to its directory: a user with
write access there can replace the file.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun import service_user
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

#: The environment's name of the directory with a service's credentials.
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def check(path: Path, status: os.stat_result, name: str) -> None:
    """Raise ConfigError where others can read or replace a file, whose `status` is given.

    The status is of what was opened, so of a link's target. `name` begins the complaint.
    """
    quoted = shlex.quote(str(path))
    if status.st_uid not in trusted_users():
        raise ConfigError(f"{name} belongs to {user_named(status.st_uid)}; run: {_chown(quoted)}")
    if status.st_mode & _closed_to_others(path, status.st_gid):
        raise ConfigError(f"{name} is open to other users; run: chmod 600 {quoted}")
    check_directory(path, name)


def _closed_to_others(path: Path, group: int) -> int:
    """Return what a file's mode must not have.

    The services' group may read what is root's. In the directory of a service's credentials those
    bits say what an access list gives to its one user (systemd.exec(5), acl(5)).
    """
    service = service_user.find()
    is_readable = service is not None and service.group == group
    is_readable |= path.parent == credentials()
    return _OTHERS & ~stat.S_IRGRP if is_readable else _OTHERS


def credentials() -> Path | None:
    """Return where systemd has put this service's credentials; None: it was given none."""
    directory = os.environ.get(CREDENTIALS, "")
    return Path(directory) if directory.startswith("/") else None


def check_directory(path: Path, name: str, owners: AbstractSet[int] | None = None) -> None:
    """Raise ConfigError if others than ``owners`` (None: `trusted_users`) can replace this file.

    Of a link, its own directory and its target's.
    """
    owners = trusted_users() if owners is None else owners
    for directory in dict.fromkeys((path.absolute().parent, path.resolve().parent)):
        status = directory.stat()
        if status.st_uid not in owners:
            raise ConfigError(
                f"{name} can be replaced by {user_named(status.st_uid)}, the owner of its"
                f" directory; move it to a directory that belongs to {_us()}"
            )
        # In a sticky directory, as /tmp is, a file is only its owner's to replace.
        if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            quoted = shlex.quote(str(directory))
            raise ConfigError(f"{name} can be replaced by other users; run: chmod go-w {quoted}")


def trusted_users() -> set[int]:
    """Return root and the user that runs fastun; for root also the user of its services.

    Not for what root executes: see `own_users`.
    """
    users = own_users()
    if os.geteuid() == 0 and (service := service_user.find()) is not None:
        users.add(service.user)
    return users


def own_users() -> set[int]:
    """Return root, the user that runs fastun, and the caller of sudo(8), which has root anyway."""
    users = {0, os.geteuid()}
    by_sudo = os.environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and by_sudo.isascii() and by_sudo.isdigit():
        users.add(int(by_sudo))
    return users


def user_named(uid: int) -> str:
    """Return a user for people."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _chown(quoted: str) -> str:
    return f"chown {_us()} {quoted}"


def _us() -> str:
    return user_named(os.geteuid()).removeprefix("user ")
