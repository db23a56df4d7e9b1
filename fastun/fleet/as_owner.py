"""Root's commands connect to a fleet's database as the user whose copy names it.

A service owns its state directory, so whoever has taken it over can write there to which database
the commands connect. What libpq then says to that one, a password of a passfile or of the
environment, or a client's certificate, must be the service's and not root's.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What libpq takes of the environment, beside its own variables (PG...).
_OF_LIBPQ: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "KRB5CCNAME", "KRB5_CONFIG")


@contextlib.contextmanager
def as_owner(copy: Path) -> Iterator[None]:
    """Be the user who owns `copy`, with that user's home and nothing of root's environment.

    It changes nothing where another than root runs the command, or where root owns the copy. For a
    process with one thread: libc gives all threads the user of the one that asks.
    """
    owner = copy.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    environment, groups, group = dict(os.environ), os.getgroups(), os.getegid()
    for name in environment:
        if name.startswith("PG") or name in _OF_LIBPQ:
            del os.environ[name]
    os.environ["HOME"] = _home(owner.st_uid)
    os.setgroups([owner.st_gid])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
        os.environ.clear()
        os.environ.update(environment)


def _home(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_dir
    except KeyError:  # a user of systemd's making (DynamicUser)
        return "/"
