"""The MTU that this host itself sets for the path to a peer: that of the device and the route.

Routers do not affect it. The kernel's PMTU cache can be changed by ICMP from anyone who knows our
address and port, so the route is requested as configured (RTM_F_FIB_MATCH; Linux 4.13, IPv6 5.0),
without the cache. Of several next hops the smallest MTU counts: the kernel chooses the next hop of
a datagram, and may change its choice.
Source: rtnetlink(7), linux/rtnetlink.h; tried on Linux 6.18.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from fastun._native import UdpAddress

# linux/netlink.h, linux/rtnetlink.h
_RTM_GETROUTE, _NLMSG_ERROR, _NLM_F_REQUEST = 26, 2, 1
_RTM_F_FIB_MATCH = 0x2000
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_METRICS, _RTA_MULTIPATH, _RTA_MARK = 1, 2, 4, 8, 9, 16
_RTAX_MTU = 2
_RTN_LOCAL = 2
_LOOPBACK_INDEX = 1
_NLMSG = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_RTMSG = struct.Struct("=8BI")  # family, destination and source bits, ..., type, flags
_ATTRIBUTE = struct.Struct("=HH")
_NEXT_HOP = struct.Struct("=HBBi")  # length, flags, hops, interface
_TYPE_MASK = 0x3FFF  # the upper bits say nested and byte order
_REPLY_BYTES = 65536

# Multicast groups 1, 7, 8, 11, 19: links, IPv4 routes and rules, IPv6 routes and rules.
_CHANGES = 1 << 0 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 18
# Each read returns many notifications; on a router some may stay for the next time, which is fine.
_READS_MAX = 64

_SIOCGIFMTU = 0x8921


def local_mtu(to: UdpAddress, fwmark: int = 0) -> int:
    """Return the MTU of this host's device and route to ``to``, in bytes. OSError: no route."""
    try:
        return _of_route(to, fwmark, to.local)
    except OSError:
        if to.local is None:
            raise
        return _of_route(to, fwmark, None)  # our address may have gone; the kernel takes another


class RouteChanges:
    """Detects changes of links, routes and rules, from the kernel's notifications."""

    def __init__(self) -> None:
        """Listen from now on."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, _CHANGES))
        self._socket.setblocking(False)

    def have_come(self) -> bool:
        """Return whether there were any since the last call; their content is ignored."""
        for n_read in range(_READS_MAX):
            try:
                self._socket.recv(_REPLY_BYTES)
            except BlockingIOError:
                return n_read > 0
            except OSError:  # ENOBUFS: more than its queue could hold
                continue
        return True

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


# -- asking -----------------------------------------------------------------------------------


def _of_route(to: UdpAddress, fwmark: int, source: IPv4Address | IPv6Address | None) -> int:
    reply = _ask(_question(to, fwmark, source))
    route_type = _RTMSG.unpack_from(reply)[7]
    attributes = dict(_attributes(reply[_RTMSG.size :]))
    interfaces = [_number(attributes[_RTA_OIF])] if _RTA_OIF in attributes else []
    interfaces += _next_hops(attributes.get(_RTA_MULTIPATH, b""))
    if route_type == _RTN_LOCAL:  # whatever interface the address is of
        interfaces = [_LOOPBACK_INDEX]
    if not interfaces:
        raise OSError(errno.ENETUNREACH, f"no interface leads to {to.host}")
    is_ipv6 = to.host.version == 6  # noqa: PLR2004
    mtus = [_of_interface(index, is_ipv6=is_ipv6) for index in interfaces]
    metrics = dict(_attributes(attributes.get(_RTA_METRICS, b"")))
    if _RTAX_MTU in metrics:
        mtus.append(_number(metrics[_RTAX_MTU]))
    return min(mtu for mtu in mtus if mtu > 0)


def _question(to: UdpAddress, fwmark: int, source: IPv4Address | IPv6Address | None) -> bytes:
    family = socket.AF_INET if to.host.version == 4 else socket.AF_INET6  # noqa: PLR2004
    n_bits = to.host.max_prefixlen
    source_bits = n_bits if source is not None else 0
    body = _RTMSG.pack(family, n_bits, source_bits, 0, 0, 0, 0, 0, _RTM_F_FIB_MATCH)
    body += _attribute(_RTA_DST, to.host.packed)
    if source is not None:
        body += _attribute(_RTA_SRC, source.packed)
    for kind, number in ((_RTA_MARK, fwmark), (_RTA_OIF, to.zone)):
        if number:
            body += _attribute(kind, struct.pack("=I", number))
    return _NLMSG.pack(_NLMSG.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body


def _ask(question: bytes) -> bytes:
    """Return the body of the kernel's answer, which it gives before send returns."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as netlink:
        netlink.send(question)
        reply = netlink.recv(_REPLY_BYTES)
    length, message_type = _NLMSG.unpack_from(reply)[:2]
    body = reply[_NLMSG.size : length]
    if message_type == _NLMSG_ERROR:
        code = -_number(body, signed=True)
        raise OSError(code, os.strerror(code))
    return body


# -- reading ----------------------------------------------------------------------------------


def _attribute(kind: int, content: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), kind) + content  # all are multiples of 4


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    while len(body) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(body)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, body[_ATTRIBUTE.size : length]
        body = body[length + 3 & ~3 :]


def _next_hops(body: bytes) -> Iterator[int]:
    while len(body) >= _NEXT_HOP.size:
        length, _, _, interface = _NEXT_HOP.unpack_from(body)
        if length < _NEXT_HOP.size:
            return
        yield interface
        body = body[length + 3 & ~3 :]


def _number(content: bytes, *, signed: bool = False) -> int:
    return int.from_bytes(content[:4], sys.byteorder, signed=signed)


def _of_interface(index: int, *, is_ipv6: bool) -> int:
    name = socket.if_indextoname(index)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        request = struct.pack("16si", name.encode(), 0).ljust(40, b"\0")
        mtu: int = struct.unpack_from("i", fcntl.ioctl(any_socket, _SIOCGIFMTU, request), 16)[0]
    if is_ipv6:  # a router's advertisement may have made it less for IPv6 (RFC 4861 4.6.4)
        with contextlib.suppress(OSError, ValueError):
            mtu = min(mtu, int(Path(f"/proc/sys/net/ipv6/conf/{name}/mtu").read_text("ascii")))
    return mtu
