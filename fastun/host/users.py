"""Which users a gateway and its workers are: two that own nothing and run nothing else.

The workers are the system user ``fastun`` where there is one. Otherwise they have, and the gateway
always has, a number of the range from which systemd takes its dynamic users, 61184 to 65519, and
which distributions leave alone, after a look at what has one of them already. All in files of this
host: a directory service may be behind the tunnel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from fastun import service_user

# https://systemd.io/UIDS-GIDS
FIRST, LAST = 61184, 65519

_CAP_KILL, _CAP_SETGID, _CAP_SETUID = 5, 6, 7  # linux/capability.h
# The gateway must be able to end what it has started.
_NEEDED: Final = {_CAP_KILL: "CAP_KILL", _CAP_SETGID: "CAP_SETGID", _CAP_SETUID: "CAP_SETUID"}

_UID_LINE_BY_BYTES: Final = 512  # in /proc/PID/status

_ETC, _PROC = Path("/etc"), Path("/proc")
_DYNAMIC_USERS = Path("/run/systemd/dynamic-uid")


class Users(msgspec.Struct, frozen=True):
    """The numbers of the workers' user and its group, and that of both of the gateway's.

    0: they keep the user that has started the gateway, and ``why`` says why.
    """

    user: int = 0
    group: int = 0
    gateway: int = 0
    why: str = ""


KEPT: Final = Users()


def choose() -> Users:
    """Return the users of this gateway."""
    if missing := _missing():
        return Users(why=missing)
    free = _free(os.getpid())
    for name, user, group in _entries("passwd"):
        if name == service_user.NAME and user != 0:
            if _is_mapped(user):
                return Users(user, group, next(free, user))
            return Users(why=_NOT_MAPPED)
    user = next(free, 0)
    return Users(user, user, next(free, user)) if user else Users(why=_NOT_MAPPED)


_NOT_MAPPED: Final = "the user namespace has no other user"


def _missing() -> str:
    """Return what keeps this process from changing the user, "" for nothing."""
    status = (_PROC / "self" / "status").read_text(encoding="ascii", errors="replace")
    effective = next(
        (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0
    )
    names = [name for number, name in _NEEDED.items() if not effective >> number & 1]
    if names:
        return f"without {', '.join(names)}"
    try:
        setgroups = (_PROC / "self" / "setgroups").read_text(encoding="ascii").strip()
    except OSError:  # as old as Linux 3.18
        return ""
    return "" if setgroups == "allow" else _NOT_MAPPED


def _free(start: int) -> Iterator[int]:
    """Yield the numbers that nothing has; gateways begin at different ones."""
    taken = set(_taken())
    n_numbers = LAST - FIRST + 1
    in_turn = (FIRST + (2 * start + i) % n_numbers for i in range(n_numbers))
    return (number for number in in_turn if number not in taken and _is_mapped(number))


def _taken() -> Iterator[int]:
    for name in ("passwd", "group"):
        for _, number, group in _entries(name):
            yield number
            yield group
    for entry in _names_in(_DYNAMIC_USERS):
        if entry.isdecimal():  # beside them, links from names
            yield int(entry)
    for entry in _names_in(_PROC):
        if entry.isdecimal():
            yield from _users_of(_PROC / entry / "status")


def _users_of(path: Path) -> Iterator[int]:
    """Yield a process's users. Its directory belongs to root where it is not dumpable, as ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it has ended
        return
    try:
        _, _, rest = os.read(fd, _UID_LINE_BY_BYTES).partition(b"\nUid:")
    except ProcessLookupError:
        return
    finally:
        os.close(fd)
    yield from map(int, rest.partition(b"\n")[0].split())


def _entries(name: str) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the number and the group of each line; of a group its number twice."""
    try:
        text = (_ETC / name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        of, _, number, group = [*line.split(":"), "", "", ""][:4]
        if number.isdecimal():
            yield of, int(number), int(group if group.isdecimal() else number)


def _names_in(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except OSError:
        return []


def _is_mapped(number: int) -> bool:
    """Return whether the number exists in this user namespace, as a user and as a group."""
    return all(_covers(_PROC / "self" / name, number) for name in ("uid_map", "gid_map"))


def _covers(path: Path, number: int) -> bool:
    try:
        ranges = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    except OSError:  # a kernel without user namespaces
        return True
    return any(int(first) <= number < int(first) + int(count) for first, _, count in ranges)
