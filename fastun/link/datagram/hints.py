"""Hints from routers: ICMP "fragmentation needed" and "packet too big", and what they quote.

    IPv4   type 3, code 4   the next link's MTU (RFC 1191), IP header and 8 bytes or more
    IPv6   type 2           the next link's MTU (RFC 4443), as much of the packet as fits 1280

Anyone can send one, so it is only a hint (path_mtu.py decides what it does). A stranger cannot know
the receiver index and counter of one of our messages, which most routers quote. On a UDP socket the
kernel reports such errors only by failing the next send (IP_RECVERR). So they are read from raw
sockets with a kernel filter that passes only those about datagrams from our ports. The rate of
reading is limited.
Source: icmp(7), raw(7), bpf(4) in linux/filter.h.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Generic, TypeVar

import msgspec

from fastun import log
from fastun.host.sockets import icmp_filter
from fastun.host.sockets.maker import OWN, SocketMaker
from fastun.link.datagram import icmp_quote
from fastun.link.datagram.icmp_quote import Quote
from fastun.native import MessageType

# Messages read in one turn, and turns of 0.1 s: each takes some 7 us, all together 1 % of a core.
# The more are read, the larger the flood of forged ones that true ones get lost in.
HINTS_PER_TURN = 150
TURN_S = 0.1

_UNREACHABLE, _FRAGMENTATION_NEEDED, _PACKET_TOO_BIG = 3, 4, 2
_UDP_BYTES = 8
_DATA_TYPES = (MessageType.DATA, MessageType.DATA_AES)
_DATA = struct.Struct("<B3xIQ")  # type, receiver's index, counter
_READ_BYTES = 256


class Hint(msgspec.Struct, frozen=True):
    """Claims that our datagram of ``length`` bytes does not fit ``mtu`` on the way to a peer.

    Both are of IP packets. ``index`` and ``counter`` are None where too little is quoted.
    """

    mtu: int
    length: int
    host: IPv4Address | IPv6Address
    port: int
    index: int | None = None
    counter: int | None = None


# -- reading ----------------------------------------------------------------------------------


def read_ipv4(packet: bytes) -> Hint | None:
    """Return the hint in an IPv4 packet; None if it is not such a message about UDP."""
    quote = icmp_quote.in_ipv4(packet)
    if quote is None or quote.icmp[:2] != bytes((_UNREACHABLE, _FRAGMENTATION_NEEDED)):
        return None
    return _about(int.from_bytes(quote.icmp[6:8], "big"), quote)


def read_ipv6(icmp: bytes) -> Hint | None:
    """Return the hint in an ICMPv6 message; None if it is not such a message about UDP."""
    quote = icmp_quote.in_ipv6(icmp)
    if quote is None or quote.icmp[0] != _PACKET_TOO_BIG:
        return None
    return _about(int.from_bytes(quote.icmp[4:8], "big"), quote)


def _about(mtu: int, quote: Quote) -> Hint | None:
    if mtu >= quote.length:  # then it would have fitted
        return None
    hint = Hint(mtu, quote.length, quote.host, quote.port)
    if len(quote.udp) < _UDP_BYTES + _DATA.size:
        return hint
    kind, index, counter = _DATA.unpack_from(quote.udp, _UDP_BYTES)
    if kind not in _DATA_TYPES:
        return hint
    return Hint(mtu, quote.length, quote.host, quote.port, index, counter)


# -- hearing ----------------------------------------------------------------------------------


Message = TypeVar("Message")
Read = Callable[
    [bytes, str], Message | None
]  # of a packet, and who sent it where that is not in it


class IcmpListener(Generic[Message]):
    """Reads ICMP messages of one kind about datagrams from our ports. Event loop only."""

    def __init__(
        self,
        kind: icmp_filter.Kind,
        ports: Iterable[int],
        on_message: Callable[[Message], None],
        sockets: SocketMaker = OWN,
    ) -> None:
        """Call ``on_message`` with what the sockets read that are opened."""
        self._kind = kind
        self._ports = sorted(set(ports))
        self._on_message = on_message
        self._maker = sockets
        self._loop = asyncio.get_running_loop()
        self._sockets: list[tuple[socket.socket, Read[Message]]] = []
        self.is_allowed = True

    def listen(self, family: int, read: Read[Message]) -> None:
        """Read what is about our ports, by IPv4 or IPv6, if permitted (CAP_NET_RAW)."""
        try:
            opened = self._maker.icmp(self._kind, family, self._ports)
        except OSError as error:
            self.is_allowed &= error.errno not in (errno.EPERM, errno.EACCES)
            return  # otherwise this IP version is not available here
        self._sockets.append((opened, read))
        self._wait(len(self._sockets) - 1)

    def _wait(self, place: int) -> None:
        if place < len(self._sockets):
            self._loop.add_reader(self._sockets[place][0], self._take_turn, place)

    def _take_turn(self, place: int) -> None:
        """Read some, then none for a while."""
        opened, read = self._sockets[place]
        self._loop.remove_reader(opened)
        self._loop.call_later(TURN_S, self._wait, place)
        with contextlib.suppress(OSError):
            for _ in range(HINTS_PER_TURN):
                packet, sender = opened.recvfrom(_READ_BYTES)
                message = read(packet, sender[0] if sender else "")
                if message is not None:
                    self._on_message(message)

    def close(self) -> None:
        """Stop listening."""
        for opened, _ in self._sockets:
            self._loop.remove_reader(opened)
            opened.close()
        self._sockets.clear()


class HintListener(IcmpListener[Hint]):
    """Reads hints about datagrams from ``ports``."""

    def __init__(
        self, ports: Iterable[int], on_hint: Callable[[Hint], None], sockets: SocketMaker = OWN
    ) -> None:
        """Listen from now on, if permitted."""
        super().__init__("hints", ports, on_hint, sockets)
        self.listen(socket.AF_INET, lambda packet, _: read_ipv4(packet))
        self.listen(socket.AF_INET6, lambda packet, _: read_ipv6(packet))
        if not self.is_allowed:
            log.get("session").warning(
                "cannot read ICMP (needs CAP_NET_RAW): a lower path MTU is noticed later, "
                "and never for plain WireGuard peers"
            )
