"""Binding sockets to listen on, over TCP or UDP: also to an address that is not there yet.

At boot addresses come late: from DHCP, or after IPv6 has looked for duplicates. A socket that is
bound freely (ip(7), IP_FREEBIND) works from the moment at which its address is there.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable, Iterator

from fastun.host.sockets.address import EndpointAddress

_IP_FREEBIND, _IPV6_FREEBIND = 15, 78  # linux/in.h, linux/in6.h


def bound(
    address: EndpointAddress, kind: socket.SocketKind, fwmark: int = 0, *, is_beside: bool = False
) -> socket.socket:
    """Return a socket that is bound and does not block. Raises OSError.

    One of ``[::]`` takes IPv4 as well. ``fwmark`` goes on every packet; 0 is none. ``is_beside``:
    it may overlap with others that allow it.
    """
    made = socket.socket(address.family, kind)
    try:
        if fwmark:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, fwmark)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            is_one = not address.host.is_unspecified
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, is_one)
        allow_absent(made)
        allow_overlap(made, is_allowed=is_beside)
        made.bind(address.sockaddr())
        # Else the kernel would also send from an address that has gone, where it is pinned
        # (IPV6_PKTINFO), instead of the error that makes us take another.
        allow_absent(made, is_allowed=False)
        if kind == socket.SOCK_DGRAM:  # a stream's address is looked at again when it listens
            allow_overlap(made, is_allowed=False)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def allow_overlap(each: socket.socket, *, is_allowed: bool = True) -> None:
    """Let a socket overlap with others of ours that allow it, as 127.0.0.1 and [::] do, or not.

    So one can be bound before the other goes (socket(7), SO_REUSEPORT).
    """
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, is_allowed)


def _may_overlap(each: socket.socket) -> bool:
    return bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


@contextlib.contextmanager
def overlapping(sockets: Iterable[socket.socket]) -> Iterator[None]:
    """Let bound sockets of ours overlap with such that are made while the context lasts."""
    given = tuple(each for each in sockets if not _may_overlap(each))
    for each in given:
        allow_overlap(each)
    try:
        yield
    finally:
        for each in given:
            allow_overlap(each, is_allowed=False)


def allow_absent(each: socket.socket, *, is_allowed: bool = True) -> None:
    """Let a socket be bound to an address that no interface has, and send from it, or not."""
    if each.family == socket.AF_INET6:
        each.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, is_allowed)
    else:
        each.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, is_allowed)


def is_present(address: EndpointAddress) -> bool:
    """Return whether this host has the address now, and not only tentatively."""
    if address.host.is_unspecified:
        return True
    try:
        with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
            probe.bind(address._replace(port=0).sockaddr())
    except OSError as error:  # no descriptor, say, tells nothing of the address
        return error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV)
    return True


def advice(error: OSError) -> str:
    """Return what to do about a refusal to bind."""
    return {
        errno.EADDRINUSE: "the port is in use; stop the other program or choose another port",
        errno.EADDRNOTAVAIL: "no interface of this host has that address",
        errno.EACCES: "ports under 1024 need root or CAP_NET_BIND_SERVICE",
    }.get(error.errno or 0, error.strerror or str(error))
