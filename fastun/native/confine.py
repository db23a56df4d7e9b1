"""What a worker gives up before its first packet: ``csrc/confine.h``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from fastun.native.library import checked, ffi, lib
from fastun.native.shared import Stats
from fastun.native.vocabulary import ROLES

if TYPE_CHECKING:  # it brings urllib and ipaddress along, which workers have no use for
    from pathlib import Path


class Confined(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a process is confined, or would be.

    ``landlock`` is the version of Landlock's interface, 0 where there is none. ``lacks`` is what
    this kernel does not have, each with the reason.
    """

    user: int
    landlock: int
    has_filter: bool
    lacks: tuple[str, ...] = ()


def confine(role: str, stats: Stats, *, user: int, group: int, parent_pid: int) -> Confined:
    """Confine this process, for good; a user of 0 leaves it the one that it has.

    Raises ProcessLookupError when the parent is gone, and OSError: the process must end then.
    """
    wanted = ffi.new(
        "struct confine_wanted *",
        {
            "role": ROLES.index(role),
            "user": user,
            "group": group,
            "parent_pid": parent_pid,
            "stats": stats.pointer,
        },
    )
    found = ffi.new("struct confined *")
    checked(lib.confine(wanted, found))
    return _confined(found)


def confine_template(user: int, group: int) -> None:
    """Have this process give up what no worker needs; a user of 0 leaves it the one that it has.

    Raises OSError: the process must end then.
    """
    checked(lib.confine_template(user, group))


def confine_gateway(
    user: int, group: int, workers: tuple[int, int], readable: Sequence[Path]
) -> Confined:
    """Have this process, the gateway, give up what it does not need, for good, in all threads.

    A user of 0 leaves it the one that it has. ``workers`` are the user and the group of those that
    it may signal, ``readable`` the only directories below which it may open files.
    Raises OSError: the process must end then.
    """
    paths = [ffi.new("char[]", os.fsencode(path)) for path in readable]
    directories = ffi.new("char *[]", paths)
    wanted = ffi.new(
        "struct confine_gateway_wanted *",
        {
            "user": user,
            "group": group,
            "workers_user": workers[0],
            "workers_group": workers[1],
            "readable": directories,
            "n_readable": len(readable),
        },
    )
    found = ffi.new("struct confined *")
    checked(lib.confine_gateway(wanted, found))
    return _confined(found)


def confine_fleet(
    readable: Sequence[str], writable: Sequence[Path], ports: Sequence[int], *, has_local: bool
) -> Confined:
    """Have this process, which speaks to a fleet's database, give up what it does not need.

    It may read what is ``readable``, and below directories there, change the files that are
    ``writable`` and there, connect by TCP to ``ports``, and by local sockets if it ``has_local``.
    Raises OSError: the process must end then.
    """
    paths = [
        [ffi.new("char[]", os.fsencode(path)) for path in each] for each in (readable, writable)
    ]
    arrays = [ffi.new("char *[]", each) for each in paths]
    numbers = ffi.new("uint16_t[]", list(ports))
    wanted = ffi.new(
        "struct confine_fleet_wanted *",
        {
            "readable": arrays[0],
            "n_readable": len(readable),
            "writable": arrays[1],
            "n_writable": len(writable),
            "ports": numbers,
            "n_ports": len(ports),
            "has_local_sockets": has_local,
        },
    )
    found = ffi.new("struct confined *")
    checked(lib.confine_fleet(wanted, found))
    return _confined(found)


def needs_exec() -> bool:
    """Return whether this process can lose its capabilities only by executing a program anew.

    If so, that program will have none. Raises OSError.
    """
    return checked(lib.confine_by_exec()) == 1


def probe_confinement() -> Confined:
    """Return what `confine` would find on this host, with this process's user."""
    found = ffi.new("struct confined *")
    lib.confine_probe(found)
    return _confined(found)


def _confined(found: Any) -> Confined:
    lacks = []
    if not found.has_filter:
        lacks.append(f"seccomp ({os.strerror(found.filter_errno)})")
    if not found.landlock_abi:
        lacks.append(f"Landlock ({os.strerror(found.landlock_errno)})")
    return Confined(found.user, found.landlock_abi, bool(found.has_filter), tuple(lacks))


def rest() -> None:
    """Sleep for some milliseconds, as a confined worker may."""
    lib.confined_rest()
