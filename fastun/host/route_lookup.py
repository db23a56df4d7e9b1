"""Looks up the interface that the kernel would use for a packet of our own sockets.

One netlink request and its answer, some 10 us, so it can be used on the event loop; pyroute2 brings
a loop of its own. Source: rtnetlink(7), linux/rtnetlink.h, net/ipv4/route.c
(inet_rtm_getroute), net/ipv6/route.c (inet6_rtm_getroute).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, lengths of destination and source, ...
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_RTM_NEWROUTE, _RTM_GETROUTE, _NLM_F_REQUEST = 24, 26, 1
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_MARK = 1, 2, 4, 16
_RTA_IP_PROTO, _RTA_DPORT = 27, 29

# linux/netlink.h, linux/rtnetlink.h: addresses, routes and rules of both versions.
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_GROUPS: Final = (5, 7, 8, 9, 11, 19)

_ANSWER_BYTES: Final = 4096
_ALIGNMENT: Final = 4

Address = IPv4Address | IPv6Address


class RouteLookup:
    """Two netlink sockets. Event loop only."""

    def __init__(self, fwmark: int) -> None:
        """Ask for packets with ``fwmark``; 0 is none. Raises OSError."""
        self._fwmark = fwmark
        self._sequence = 0
        self._questions = _netlink_socket()
        self._changes = _netlink_socket()
        for group in _GROUPS:
            with contextlib.suppress(OSError):  # a kernel without IPv6
                self._changes.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def close(self) -> None:
        """Close the sockets."""
        self._questions.close()
        self._changes.close()

    def have_changed(self) -> bool:
        """Return whether addresses, routes or rules have changed since the last time."""
        have_changed = False
        while True:
            try:
                self._changes.recv(_ANSWER_BYTES)
            except BlockingIOError:
                return have_changed
            except OSError as error:  # more has changed than the socket holds
                if error.errno != errno.ENOBUFS:
                    return True
            have_changed = True

    def interface_to(
        self, host: Address, port: int, protocol: int, source: Address | None = None
    ) -> int:
        """Return the index of the interface by which ``host`` is reached.

        ``protocol`` is IPPROTO_UDP or IPPROTO_TCP; ``source`` our address, if it is fixed. 0: there
        is no route, or the kernel returned an error.
        """
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        question = _question(host, port, protocol, source, self._fwmark, self._sequence)
        try:
            self._questions.send(question)
            while True:
                answer = self._questions.recv(_ANSWER_BYTES)
                if _HEADER.unpack_from(answer)[3] == self._sequence:
                    return _interface_of(answer)
        except OSError:
            return 0


def _netlink_socket() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    made.setblocking(False)
    made.bind((0, 0))
    return made


def _attribute(kind: int, content: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(content)
    return _ATTRIBUTE.pack(length, kind) + content + bytes(-length % _ALIGNMENT)


def _question(  # noqa: PLR0917 (what the kernel decides by)
    host: Address, port: int, protocol: int, source: Address | None, fwmark: int, sequence: int
) -> bytes:
    family = socket.AF_INET if isinstance(host, IPv4Address) else socket.AF_INET6
    bits = host.max_prefixlen
    attributes = _attribute(_RTA_DST, host.packed)
    attributes += _attribute(_RTA_IP_PROTO, bytes((protocol,)))
    attributes += _attribute(_RTA_DPORT, struct.pack("!H", port))
    if source is not None:
        attributes += _attribute(_RTA_SRC, source.packed)
    if fwmark:
        attributes += _attribute(_RTA_MARK, struct.pack("=I", fwmark))
    body = _ROUTE.pack(family, bits, bits if source else 0, 0, 0, 0, 0, 0, 0) + attributes
    length = _HEADER.size + len(body)
    return _HEADER.pack(length, _RTM_GETROUTE, _NLM_F_REQUEST, sequence, 0) + body


def _interface_of(answer: bytes) -> int:
    """Return the interface in the kernel's answer; 0 where it is an error."""
    length, kind, *_ = _HEADER.unpack_from(answer)
    at, end = _HEADER.size + _ROUTE.size, min(length, len(answer))
    while kind == _RTM_NEWROUTE and at + _ATTRIBUTE.size <= end:
        attribute_length, attribute = _ATTRIBUTE.unpack_from(answer, at)
        if attribute == _RTA_OIF:
            return int(struct.unpack_from("=I", answer, at + _ATTRIBUTE.size)[0])
        at += max(attribute_length + -attribute_length % _ALIGNMENT, _ATTRIBUTE.size)
    return 0
