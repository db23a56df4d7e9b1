"""What a worker that seals or opens maps of sessions: the keys, and its counters or marks."""

from __future__ import annotations

from fastun import native
from fastun.lane.messages import Boot
from fastun.native import Wire
from fastun.native.loop import SessionMemory


def take(role: str, boot: Boot, fds: list[int]) -> tuple[list[int], list[int]]:
    """Return the descriptors of sessions' memory, if the role has it, and the others."""
    n = 2 if role in native.KEY_ROLES and boot.wire == Wire.WIREGUARD else 0
    return fds[:n], fds[n:]


def attach(role: str, boot: Boot, fds: list[int]) -> SessionMemory:
    """Map what these are descriptors of, which stay the caller's."""
    if not fds:
        return SessionMemory()
    keys_fd, counters_fd = fds
    keys = native.KeyArea(keys_fd, is_secret=boot.secret_keys)
    if role == "tun-reader":
        return SessionMemory(keys, sending=native.SendingCounters.attach(counters_fd))
    return SessionMemory(keys, marks=native.ReplayMarks.attach(counters_fd))
