"""Which descriptors are open, and how it is when none is left, by the kernel's own limits."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import resource
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def open_descriptors() -> set[str]:
    """Return those of this process, without those that only wait to be collected as garbage.

    What an earlier test has left in a cycle would else be closed between two looks.
    """
    gc.collect()
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names are all that is wanted)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open nothing while the context lasts: EMFILE."""
    with limited_to(next_free(1)[0]):
        yield


@contextlib.contextmanager
def too_many_descriptors_in_flight() -> Iterator[None]:
    """Let this process send no descriptor while the context lasts: ETOOMANYREFS.

    So many of this user's may have been sent and not received as a process may have open
    (too_many_unix_fds in net/unix/scm.c), unless it has one of two capabilities.
    """
    n_most = max(200, next_free(1)[0] + 50)
    ours, theirs = socket.socketpair()
    with ours, theirs, limited_to(n_most), _without_capabilities(_SYS_ADMIN, _SYS_RESOURCE):
        for _ in range(n_most // _SCM_MAX_FD + 1):
            socket.send_fds(ours, [b"x"], [0] * _SCM_MAX_FD)
        yield


_SCM_MAX_FD = 253  # net/scm.h


def next_free(n: int) -> list[int]:
    """Return the descriptors that the next calls will open, in their order."""
    opened = [os.dup(0) for _ in range(n)]
    for descriptor in opened:
        os.close(descriptor)
    return opened


@contextlib.contextmanager
def limited_to(n_descriptors: int) -> Iterator[None]:
    """Lower the soft limit of this process, which its children inherit, while the context lasts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_descriptors, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def limits_of(pid: int) -> tuple[int, int]:
    """Return the soft and the hard limit of another process, whatever its user."""
    limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
    soft, hard = re.findall(r"^Max open files +(\d+) +(\d+)", limits, re.MULTILINE)[0]
    return int(soft), int(hard)


def limit(pid: int, n_descriptors: int) -> None:
    """Set the soft limit of another process, as its own user: root may not be allowed to."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    user, group = map(int, re.findall(r"^[UG]id:\t(\d+)", status, re.MULTILINE))
    command = ("prlimit", f"--pid={pid}", f"--nofile={n_descriptors}:")
    subprocess.run(command, user=user, group=group, extra_groups=[], check=True)


# linux/capability.h
_SYS_ADMIN, _SYS_RESOURCE = 21, 24
_VERSION_3 = 0x20080522


@contextlib.contextmanager
def _without_capabilities(*numbers: int) -> Iterator[None]:
    """Have these capabilities of this thread not in effect."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    had = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice, the low bits first
    assert libc.capget(header, had) == 0
    left = type(had)(*had)
    for number in numbers:
        left[0] &= ~(1 << number)
    assert libc.capset(header, left) == 0
    try:
        yield
    finally:
        assert libc.capset(header, had) == 0
