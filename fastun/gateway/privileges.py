"""The gateway gives up its privileges: a user that owns nothing, no capability, no way to files.

It has all that it needs by then, and asks the host process for the rest. What it may still do is in
SECURITY.md, in which order it gives up the rest in csrc/confine/gateway.c.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import structs

from fastun import import_paths, log, native
from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from fastun.host.users import Users

# What libc's name service, Python and its libraries read, and what the kernel shows. Neither homes
# nor the state of other services are below them; keys in /etc are for their owner alone.
_READ: Final = ("etc", "gnu", "lib", "lib32", "lib64", "nix", "opt", "proc", "run", "sys", "usr")

# Links, as under WSL, that lead elsewhere.
_FILES: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")


_given_up: list[native.Confined] = []  # once; the state is the process's


def given_up() -> native.Confined | None:
    """Return what this process has given up, None before."""
    return _given_up[0] if _given_up else None


def give_up(users: Users) -> None:
    """Give up all that the gateway does not need, for good. Raises RuntimeFailure.

    What this kernel does not have is said once; `given_up` has that, and what this start has not.
    """
    user, lacks = users.gateway, [] if users.gateway else [f"a user of its own ({users.why})"]
    if user and not import_paths.open_to_others():
        user = 0
        lacks.append(f"a user of its own (only this one may read {sys.prefix})")
    try:
        confined = native.confine_gateway(
            user, user, (users.user, users.group), sorted(_readable())
        )
    except OSError as error:
        raise RuntimeFailure(
            f"the gateway cannot give up its privileges: {error.strerror}; please report it"
        ) from None
    if confined.lacks:
        log.get("gateway").warning(
            "this kernel cannot fully confine the gateway", lacks=", ".join(confined.lacks)
        )
    _given_up[:] = [structs.replace(confined, lacks=(*confined.lacks, *lacks))]


def _readable() -> set[Path]:
    found = {Path("/", name) for name in _READ} | {Path(sys.prefix), Path(sys.base_prefix)}
    found.update(map(Path, import_paths.directories()))
    for name in _FILES:
        with contextlib.suppress(OSError, RuntimeError):  # a link to itself
            found.add(Path(name).resolve().parent)
    return found - {Path("/")}
