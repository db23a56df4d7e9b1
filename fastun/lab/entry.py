"""The way into a laboratory for those who are not root: a user namespace of their own.

    you --unshare--> root, with a /run where `ip netns` may write --> the program

What that does not solve is said in one line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NoReturn

from fastun.errors import RuntimeFailure
from fastun.lab.network import TUN_DEVICE, missing_capability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What the laboratory itself runs, and the Debian package of each.
PROGRAMS = {
    "ip": "iproute2",
    "ping": "iputils-ping",
    "setpriv": "util-linux",
}
_REENTERED = "FASTUN_LAB_REENTERED"


def enter(programs: Mapping[str, str], again: Sequence[str], as_root: str) -> None:
    """Make sure that a laboratory can be made here, by running `again` in a namespace if need be.

    `programs` are needed, with the Debian package of each; `as_root` is what a person would run
    with root's rights. FastunError that says what to do if it cannot run here.
    """
    missing = sorted({f"{name} (package {programs[name]})" for name in programs if not _has(name)})
    if missing:
        raise RuntimeFailure(f"not installed: {', '.join(missing)}")
    if not TUN_DEVICE.exists():
        raise RuntimeFailure(f"{TUN_DEVICE} does not exist; as root: modprobe tun")
    lacking = missing_capability()
    if lacking is None:
        return
    if os.geteuid() == 0:
        raise RuntimeFailure(f"root here (in a container?) lacks {lacking.partition(' ')[0]}")
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        raise RuntimeFailure(
            f"you may not use {TUN_DEVICE}: {as_root}, or sudo chmod 0666 {TUN_DEVICE}"
        )
    _enter_user_namespace(again, as_root)


def _has(program: str) -> bool:
    return shutil.which(program) is not None


def _enter_user_namespace(again: Sequence[str], as_root: str) -> NoReturn:
    unshare = ("unshare", "--user", "--map-root-user", "--net", "--mount")
    prepare = 'mount -t tmpfs tmpfs /run && mkdir /run/netns && exec "$@"'
    if (
        _REENTERED in os.environ
        or not _has("unshare")
        or subprocess.run((*unshare, "true"), capture_output=True, check=False).returncode != 0
    ):
        raise RuntimeFailure(f"this system keeps user namespaces from you: {as_root}")
    command = (*unshare, "sh", "-c", prepare, "sh", *again)
    os.execvpe(command[0], command, os.environ | {_REENTERED: "1"})  # noqa: S606 (no shell input)
