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
import socket
import struct
from pathlib import Path

from fastun.host.netlink.rtnetlink import (
    RTA_METRICS,
    RTM_F_FIB_MATCH,
    RTN_LOCAL,
    Address,
    RouteQuestions,
    attributes_of,
    number,
)
from fastun.native import UdpAddress

_RTAX_MTU = 2  # linux/rtnetlink.h
_LOOPBACK_INDEX = 1

_SIOCGIFMTU = 0x8921


def local_mtu(to: UdpAddress, fwmark: int = 0) -> int:
    """Return the MTU of this host's device and route to ``to``, in bytes. OSError: no route."""
    try:
        return _of_route(to, fwmark, to.local)
    except OSError:
        if to.local is None:
            raise
        return _of_route(to, fwmark, None)  # our address may have gone; the kernel takes another


def _of_route(to: UdpAddress, fwmark: int, source: Address | None) -> int:
    with RouteQuestions(fwmark) as questions:
        route = questions.ask(to.host, source=source, interface=to.zone, flags=RTM_F_FIB_MATCH)
    interfaces = route.interfaces()
    if route.kind == RTN_LOCAL:  # whatever interface the address is of
        interfaces = [_LOOPBACK_INDEX]
    if not interfaces:
        raise OSError(errno.ENETUNREACH, f"no interface leads to {to.host}")
    is_ipv6 = to.host.version == 6  # noqa: PLR2004
    mtus = [_of_interface(index, is_ipv6=is_ipv6) for index in interfaces]
    metrics = dict(attributes_of(route.attributes.get(RTA_METRICS, b"")))
    if _RTAX_MTU in metrics:
        mtus.append(number(metrics[_RTAX_MTU]))
    return min(mtu for mtu in mtus if mtu > 0)


def _of_interface(index: int, *, is_ipv6: bool) -> int:
    name = socket.if_indextoname(index)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        request = struct.pack("16si", name.encode(), 0).ljust(40, b"\0")
        mtu: int = struct.unpack_from("i", fcntl.ioctl(any_socket, _SIOCGIFMTU, request), 16)[0]
    if is_ipv6:  # a router's advertisement may have made it less for IPv6 (RFC 4861 4.6.4)
        with contextlib.suppress(OSError, ValueError):
            mtu = min(mtu, int(Path(f"/proc/sys/net/ipv6/conf/{name}/mtu").read_text("ascii")))
    return mtu
