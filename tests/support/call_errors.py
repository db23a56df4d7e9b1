"""Which system calls fastun's processes make, and how each can fail for a while.

Of a worker they are those that csrc/confine/calls.h allows it; the gateway's were measured.
"""

from __future__ import annotations

import re
from errno import (
    EAGAIN,
    ECONNREFUSED,
    EHOSTUNREACH,
    EINTR,
    EIO,
    EMFILE,
    ENETUNREACH,
    ENOBUFS,
    ENOMEM,
    ENOSPC,
    EPERM,
)
from pathlib import Path
from typing import Final

from fastun.native import ROLES
from tests.support.failing_calls import GATEWAY, HOST

_CALLS_H: Final = Path(__file__).resolve().parents[2] / "csrc" / "confine" / "calls.h"

_SEND = (EINTR, EAGAIN, ENOBUFS, ENOMEM, ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EPERM, EIO)
_RECEIVE = (EINTR, EAGAIN, ENOBUFS, ENOMEM, ECONNREFUSED, EHOSTUNREACH, EPERM)

#: Of workers.
ERRORS: Final = {
    "read": (EINTR, ENOBUFS, ENOMEM, EPERM, EIO),  # EAGAIN: the device is empty, as ppoll says
    "write": (EINTR, EAGAIN, ENOBUFS, ENOMEM, EPERM, EIO),
    "writev": (EINTR, EAGAIN, ENOBUFS, ENOMEM, ENETUNREACH, EHOSTUNREACH, EPERM, EIO),
    "sendmsg": _SEND,
    "sendmmsg": _SEND,
    "recvmsg": _RECEIVE,
    "recvmmsg": _RECEIVE,
    "epoll_pwait": (EINTR,),
    "ppoll": (EINTR, ENOMEM),
    "futex": (EINTR, EAGAIN, ENOMEM),
    "epoll_ctl": (ENOMEM, ENOSPC, EPERM),
    "close": (EINTR, ENOSPC, EIO),
    "getsockname": (ENOBUFS,),
    "getrandom": (EINTR,),
    "mmap": (EAGAIN, ENOMEM, EPERM),
    "munmap": (ENOMEM,),
    "madvise": (EAGAIN, ENOMEM),
    "mlock": (EAGAIN, ENOMEM, EPERM),
}

#: What is allowed and does not fail here, and why.
LEFT_OUT: Final = {
    "clock_gettime": "the vDSO's, and no call, where there is one",
    "restart_syscall": "made by the kernel",
    "brk": "made by libc within itself",
    "mremap": "refused always",
    "exit_group": "does not return",
    "getsockopt": "only on a full uplink: tests/native/test_fair_writer.c",
    "setsockopt": "only for fragments, and on a full uplink: tests/native/test_datagram_mtu.c",
}

#: Of the gateway, the host process and the template. EAGAIN of what was said to be ready is like
#: EINTR here: made again it goes through (failing_calls.py). What these close are sockets, pipes
#: and files of local disks, and none of those fails at that.
OTHERS: Final[dict[str, dict[str, tuple[int, ...]]]] = {
    GATEWAY: {
        "epoll_wait": (EINTR,),
        "epoll_ctl": (ENOMEM, ENOSPC, EPERM),
        "sendmsg": (EINTR, EAGAIN, ENOBUFS, ENOMEM, ENETUNREACH, EPERM),
        "recvmsg": (EINTR, EAGAIN, ENOBUFS, ENOMEM),
        "sendto": (EINTR, EAGAIN, ENOBUFS, ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EPERM),
        "recvfrom": (EINTR, EAGAIN, ENOMEM, ECONNREFUSED),
        "socket": (EMFILE, ENOBUFS, ENOMEM, EPERM),
        "socketpair": (EMFILE, ENOMEM),
        "accept4": (EINTR, EAGAIN, EMFILE, ENOBUFS, ENOMEM, EPERM),
        "connect": (EINTR, EAGAIN, ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EPERM),
        "bind": (ENOMEM, EPERM),
        "getsockname": (ENOBUFS,),
        "getsockopt": (ENOBUFS,),
        "setsockopt": (ENOMEM, ENOBUFS, EPERM),
        "openat": (EINTR, EMFILE, ENOMEM, ENOSPC, EIO, EPERM),
        "read": (EINTR, EIO),
        "write": (EINTR, ENOSPC, EIO),
        "fcntl": (EPERM,),
        "ioctl": (EINTR, EIO, EPERM),
        "mmap": (ENOMEM,),
        "munmap": (ENOMEM,),
        "getrandom": (EINTR,),
        "clone": (EAGAIN, ENOMEM),
        "pidfd_open": (EMFILE, ENOMEM),
        "rename": (ENOSPC, EIO),
        "unlink": (EIO,),
        "fsync": (ENOSPC, EIO),
        "pread64": (EIO,),
        "pwrite64": (ENOSPC, EIO),
        "poll": (EINTR, ENOMEM),
    },
    HOST: {
        "epoll_wait": (EINTR,),
        "recvmsg": (EINTR, EAGAIN, ENOBUFS, ENOMEM),
        "sendmsg": (EINTR, EAGAIN, ENOBUFS, ENOMEM),
        "sendto": (EINTR, ENOBUFS, EPERM),
        "recvfrom": (EINTR, ENOBUFS, ENOMEM),
        "socket": (EMFILE, ENOBUFS, EPERM),
        "openat": (EMFILE, ENOSPC, EIO, EPERM),
        "write": (EINTR, ENOSPC, EIO),
        "rename": (ENOSPC, EIO),
    },
    "template": {
        "recvmsg": (EINTR, ENOMEM),
        "sendto": (EINTR, ENOBUFS, ENOMEM),
        "clone": (EAGAIN, ENOMEM),
    },
}


def allowed() -> dict[str, set[str]]:
    """Return the calls that each role may make: the lines of CONFINE_CALLS."""
    text = _CALLS_H.read_text(encoding="utf-8")
    groups = dict(re.findall(r"^#define ([A-Z_]+) +\((.*)\)$", text, re.MULTILINE))

    def roles_in(names: str) -> set[str]:
        found = set()
        for name in re.findall(r"\b[A-Z_]+\b", names):
            meaning = groups[name]
            role = meaning.partition("ROLE_")[2].replace("_", "-")
            found |= {role} if role else roles_in(meaning)
        return found

    calls: dict[str, set[str]] = {role: set() for role in ROLES}
    for call, names in re.findall(r"^    X\((\w+), ([A-Z_| ]+),", text, re.MULTILINE):
        for role in roles_in(names):
            calls[role].add(call)
    return calls


def pairs_of(title: str) -> list[tuple[str, int]]:
    """Return what can fail in a process, and how."""
    calls = OTHERS.get(title)
    if calls is None:
        calls = {call: ERRORS[call] for call in sorted(allowed()[title]) if call in ERRORS}
    return [(call, error) for call, errors in calls.items() for error in errors]
