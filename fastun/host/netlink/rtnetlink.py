"""Looks up routes in the kernel as for our own packets, and detects changes of routes.

A request and its answer take some 10 us, and the answer is there before send returns, so this can
be used on the event loop; pyroute2 cannot, since it brings a loop of its own.
Source: netlink(7), rtnetlink(7), linux/netlink.h, linux/rtnetlink.h, net/ipv4/route.c
(inet_rtm_getroute), net/ipv6/route.c (inet6_rtm_getroute).
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Self, TypeVar

import msgspec

# The route as configured, without the kernel's PMTU cache, which ICMP can change. Linux 4.13; for
# IPv6 5.0.
RTM_F_FIB_MATCH: Final = 0x2000
RTN_LOCAL: Final = 2

RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_METRICS, RTA_MULTIPATH = 4, 5, 7, 8, 9
_RTA_DST, _RTA_SRC, _RTA_MARK, _RTA_IP_PROTO, _RTA_DPORT = 1, 2, 16, 27, 29
RTM_GETROUTE, _NLMSG_ERROR, _NLM_F_REQUEST = 26, 2, 1

_NLMSG: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
RTMSG: Final = struct.Struct("=8BI")  # family, destination and source bits, ..., type, flags
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_NEXT_HOP: Final = struct.Struct("=HBBi")  # length, flags, hops, interface
_TYPE_MASK: Final = 0x3FFF  # the upper bits say nested and byte order
_ANSWER_BYTES: Final = 65536

# Multicast groups 1, 5, 7, 8, 9, 11, 19: links; addresses, routes and rules of IPv4; of IPv6.
_GROUPS: Final = sum(1 << group - 1 for group in (1, 5, 7, 8, 9, 11, 19))
# A router may have more notifications than one call should read; their content does not matter.
_NOTICES_MAX: Final = 64

Address = IPv4Address | IPv6Address
Buffer = TypeVar("Buffer", bytes, memoryview)


class Route(msgspec.Struct, frozen=True):
    """What the kernel answers: the route's type (RTN_...), and its attributes (RTA_...)."""

    kind: int
    attributes: dict[int, bytes]

    def interfaces(self) -> list[int]:
        """Return the interfaces of all its next hops, by index."""
        found = [number(self.attributes[RTA_OIF])] if RTA_OIF in self.attributes else []
        return found + list(next_hops(self.attributes.get(RTA_MULTIPATH, b"")))


class RouteQuestions:
    """Asks the kernel. One thread at a time; use as a context manager, or close."""

    def __init__(self, fwmark: int = 0) -> None:
        """Ask for packets with ``fwmark``; 0 is none. Raises OSError."""
        self._fwmark = fwmark
        self._sequence = 0
        self._socket = _netlink_socket()

    def __enter__(self) -> Self:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:  # noqa: D105
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(
        self,
        to: Address,
        *,
        source: Address | None = None,
        interface: int = 0,
        protocol: int = 0,
        port: int = 0,
        flags: int = 0,
    ) -> Route:
        """Return the route to ``to``. OSError: there is none, or the kernel refused the request.

        ``source`` is our address and ``interface`` ours, where they are settled; ``protocol``
        (IPPROTO_...) and ``port`` are for rules that look at them.
        """
        attributes = attribute(_RTA_DST, to.packed)
        if source is not None:
            attributes += attribute(_RTA_SRC, source.packed)
        for kind, value in ((_RTA_MARK, self._fwmark), (RTA_OIF, interface)):
            if value:
                attributes += attribute(kind, struct.pack("=I", value))
        if protocol:
            attributes += attribute(_RTA_IP_PROTO, bytes((protocol,)))
            attributes += attribute(_RTA_DPORT, struct.pack("!H", port))
        family = socket.AF_INET if isinstance(to, IPv4Address) else socket.AF_INET6
        bits = to.max_prefixlen
        source_bits = bits if source is not None else 0
        return self._exchange(
            RTMSG.pack(family, bits, source_bits, 0, 0, 0, 0, 0, flags) + attributes
        )

    def _exchange(self, body: bytes) -> Route:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        length = _NLMSG.size + len(body)
        header = _NLMSG.pack(length, RTM_GETROUTE, _NLM_F_REQUEST, self._sequence, 0)
        self._socket.send(header + body)
        while True:
            for kind, _, sequence, answer in messages_of(self._socket.recv(_ANSWER_BYTES)):
                if sequence == self._sequence:
                    return _route(kind, answer)


class RouteChanges:
    """Detects changes of links, addresses, routes and rules."""

    def __init__(self) -> None:
        """Listen from now on. Raises OSError."""
        self._socket = _netlink_socket(_GROUPS)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def have_come(self) -> bool:
        """Return whether there were any since the last call; their content is ignored."""
        for n_read in range(_NOTICES_MAX):
            try:
                self._socket.recv(_ANSWER_BYTES)
            except BlockingIOError:
                return n_read > 0
            except OSError:  # ENOBUFS: more than its queue could hold
                continue
        return True


def _netlink_socket(groups: int = 0) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    made.setblocking(False)
    made.bind((0, groups))
    return made


# -- messages ---------------------------------------------------------------------------------


def messages_of(datagram: Buffer) -> Iterator[tuple[int, int, int, Buffer]]:
    """Yield type, flags, sequence number and body of each message in what one read returned.

    None is shorter than its header, whatever it says: reading comes to an end.
    """
    while len(datagram) >= _NLMSG.size:
        length, kind, flags, sequence, _ = _NLMSG.unpack_from(datagram)
        yield kind, flags, sequence, datagram[_NLMSG.size : length]
        datagram = datagram[max(length, _NLMSG.size) + 3 & ~3 :]


def number(content: bytes, *, signed: bool = False) -> int:
    """Return the u32 (or i32) that an attribute begins with."""
    return int.from_bytes(content[:4], sys.byteorder, signed=signed)


def attributes_of(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes in a message's body, or nested in one of them."""
    while len(body) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(body)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, body[_ATTRIBUTE.size : length]
        body = body[length + 3 & ~3 :]


def attribute(kind: int, content: bytes) -> bytes:
    """Return an attribute, padded as the next one needs it."""
    length = _ATTRIBUTE.size + len(content)
    return _ATTRIBUTE.pack(length, kind) + content + bytes(-length % 4)


def next_hops(body: bytes) -> Iterator[int]:
    """Yield the interfaces of a route with several ways, by index."""
    while len(body) >= _NEXT_HOP.size:
        length, _, _, interface = _NEXT_HOP.unpack_from(body)
        if length < _NEXT_HOP.size:
            return
        yield interface
        body = body[length + 3 & ~3 :]


def _route(kind: int, body: bytes) -> Route:
    if kind == _NLMSG_ERROR:
        code = -number(body, signed=True)
        raise OSError(code, os.strerror(code))
    return Route(RTMSG.unpack_from(body)[7], dict(attributes_of(body[RTMSG.size :])))
