"""A TUN or TAP device by its descriptor: what the kernel says of it, wherever the interface is.

Source: linux/if_tun.h, drivers/net/tun.c.
"""

from __future__ import annotations

import fcntl
import struct
from typing import Final

_TUNGETIFF: Final = 0x800454D2
_PERSISTS: Final = 0x0800  # IFF_PERSIST
_IFREQ: Final = struct.Struct("=16sH22x")


def is_deleted(fd: int) -> bool:
    """Return whether the interface is gone; one in another namespace is not."""
    try:
        _flags(fd)
    except OSError:  # EBADFD
        return True
    return False


def is_persistent(fd: int) -> bool:
    """Return whether the interface outlives its descriptor: another program has made it."""
    return bool(_flags(fd) & _PERSISTS)


def deleted(interface: str, reason: str = "") -> str:
    """Return what to say of an interface that is gone."""
    detail = f" ({reason})" if reason else ""
    return f"interface {interface} was deleted by another program{detail}; start fastun again"


def _flags(fd: int) -> int:
    flags: int = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))[1]
    return flags
