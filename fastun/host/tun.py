"""A TUN or TAP device by its descriptor: what the kernel says of it, wherever the interface is.

Source: linux/if_tun.h, drivers/net/tun.c.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from fastun import native
from fastun.errors import RuntimeFailure
from fastun.native import Mode, Offload

_TUNGETIFF: Final = 0x800454D2
_TUNSETQUEUE: Final = 0x400454D9
_TUNGETDEVNETNS: Final = 0x54E3
_IFF_ATTACH_QUEUE, _IFF_DETACH_QUEUE = 0x0200, 0x0400
_IFF_MULTI_QUEUE: Final = 0x0100
_IFREQ: Final = struct.Struct("=16sH22x")


def opened(name: str, mode: Mode, n_queues: int = 1) -> tuple[int, ...]:
    """Make an interface, or take one that is there; return its queues' descriptors.

    Raises RuntimeFailure.
    """
    queues: list[int] = []
    try:
        for _ in range(n_queues):
            queues.append(native.device_open(name, mode, has_queues=n_queues > 1))  # noqa: PERF401 (closed below)
    except OSError as error:
        for fd in queues:
            os.close(fd)
        why = _OPEN_ERRORS.get(error.errno or 0, error.strerror)
        if error.errno == errno.EINVAL:
            why = _of_another_kind(name, n_queues)
        raise RuntimeFailure(f"interface {name}: {why}") from None
    return tuple(queues)


_NO_QUEUES = (
    "it was made before, by another program, without queues or of another kind; give it "
    "'multi_queue', use --lanes 1, or choose another name with --interface"
)
_NO_DEVICE_FILE = (
    "/dev/net/tun is not the device of the TUN driver; remove it, then make it by"
    " 'mknod /dev/net/tun c 10 200', or give the container the host's"
)
_OPEN_ERRORS = {
    errno.ENOENT: "/dev/net/tun is missing; load the driver with 'modprobe tun'",
    errno.ENODEV: "/dev/net/tun has no driver; load it with 'modprobe tun'",
    errno.EACCES: "permission denied on /dev/net/tun; run as root",
    errno.EPERM: "creating it needs CAP_NET_ADMIN; run as root",
    errno.EBUSY: "in use by another program; choose another name with --interface",
    errno.EISDIR: _NO_DEVICE_FILE,  # a container engine makes one of a file that is missing
    errno.ENOTTY: _NO_DEVICE_FILE,
    errno.ENXIO: _NO_DEVICE_FILE,
}


def _of_another_kind(name: str, n_queues: int) -> str:
    """Return what is there in place of an interface with so many queues."""
    if n_queues > 1:
        return _NO_QUEUES
    with contextlib.suppress(OSError, ValueError):  # not of the TUN driver
        flags = int(Path(f"/sys/class/net/{name}/tun_flags").read_text(encoding="ascii"), 16)
        if flags & _IFF_MULTI_QUEUE:
            return (
                "it was made before, by another program, with 'multi_queue' or of another kind;"
                " use --lanes 2, or choose another name with --interface"
            )
    return "an interface of another kind has that name; choose another with --interface"


def is_deleted(fd: int) -> bool:
    """Return whether the interface is gone; one in another namespace is not."""
    try:
        _request(fd)
    except OSError:  # EBADFD
        return True
    return False


def deleted(interface: str, reason: str = "") -> str:
    """Return what to say of an interface that is gone."""
    detail = f" ({reason})" if reason else ""
    return f"interface {interface} was deleted by another program{detail}; start fastun again"


def name(fd: int) -> str:
    """Return the interface's name at the moment. Raises OSError."""
    return _request(fd)[0].rstrip(b"\0").decode()


def namespace(fd: int) -> int:
    """Return a descriptor of the interface's network namespace (Linux 5.2). Raises OSError."""
    return fcntl.ioctl(fd, _TUNGETDEVNETNS)


def close_queue(fd: int) -> bool:
    """Have the kernel give nothing to one of several queues; return whether it does so now.

    What is written to it arrives as before. What is in it is lost, so close it before the interface
    is used.
    """
    try:
        fcntl.ioctl(fd, _TUNSETQUEUE, _IFREQ.pack(b"", _IFF_DETACH_QUEUE))
    except OSError:  # closed before, or the last one
        return False
    return True


def open_queue(fd: int) -> None:
    """Have the kernel give flows to a closed queue. It needs no privilege. Raises OSError."""
    fcntl.ioctl(fd, _TUNSETQUEUE, _IFREQ.pack(b"", _IFF_ATTACH_QUEUE))


def find_offload(fd: int) -> Offload:
    """Have the kernel hand out all super-packets that it knows; return which.

    UDP's came with Linux 6.2, reading and writing. What a peer cannot take is split.
    """
    for offload in (Offload.TCP_UDP, Offload.TCP):
        try:
            native.device_set_offload(fd, offload)
        except OSError:
            continue
        return offload
    return Offload.NONE


def _request(fd: int) -> tuple[bytes, int]:
    found: tuple[bytes, int] = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
    return found
