"""What is set on each UDP socket of a gateway: fragments, what comes with datagrams, offloads.

Source: udp(7), ip(7), ipv6(7), linux/in.h, linux/in6.h, linux/udp.h.
"""

from __future__ import annotations

import contextlib
import socket

# Not all of them are in the socket module of Python 3.11.
_IP_PKTINFO = 8
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_IP_RECVTOS, _IPV6_RECVTCLASS = 13, 66
_UDP_SEGMENT, _UDP_GRO = 103, 104


def tune(each: socket.socket) -> None:
    """Have the kernel fragment nothing, and say where each datagram came to and what marked it."""
    # "Don't fragment", regardless of the kernel's PMTU cache (path_mtu.py knows better). An
    # IPv6 socket that carries IPv4 wants both. csrc/outbound/datagram_writer.c sets the same.
    each.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
    if each.family == socket.AF_INET6:
        each.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        each.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVTCLASS, 1)
    # Also for IPv4 on an IPv6 socket: only this gives the local address that a broadcast came to.
    each.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    # What routers marked (ECN), for csrc/inbound/: again also for IPv4 on an IPv6 socket.
    each.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)


def set_offload(each: socket.socket) -> bool:
    """Turn joining on (Linux 5.0), and return whether the kernel knows cutting (4.18)."""
    with contextlib.suppress(OSError):
        each.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    try:
        each.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True
