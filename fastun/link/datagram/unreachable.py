"""ICMP "destination unreachable" about our datagrams: why a handshake gets no answer.

    IPv4   type 3, any code but 4 (RFC 792, RFC 1812)
    IPv6   type 1 (RFC 4443)

Anyone can forge one, so it is only said (attempts.py), and nothing is done about it. It is read as
hints about path MTUs are (hints.py), by sockets of its own: a flood of one keeps none of the other.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

from fastun.host.sockets.maker import OWN, SocketMaker
from fastun.link.datagram import icmp_quote
from fastun.link.datagram.hints import IcmpListener
from fastun.link.last_error import Reason

_IPV4_TYPE, _IPV6_TYPE = 3, 1

_NET, _HOST, _PORT, _PROHIBITED = (
    (Reason.UNREACHABLE, "network unreachable"),
    (Reason.UNREACHABLE, "host unreachable"),
    (Reason.PORT_CLOSED, "port unreachable"),
    (Reason.PROHIBITED, "administratively prohibited"),
)
_OF_IPV4: Final = {0: _NET, 1: _HOST, 3: _PORT, 6: _NET, 7: _HOST} | dict.fromkeys(
    (9, 10, 13), _PROHIBITED
)
_OF_IPV6: Final = {0: _NET, 3: _HOST, 4: _PORT} | dict.fromkeys((1, 5, 6), _PROHIBITED)

Address = IPv4Address | IPv6Address


class Unreachable(msgspec.Struct, frozen=True):
    """``said_by`` claims that our datagram to ``host`` and ``port`` did not arrive."""

    host: Address
    port: int
    reason: Reason
    what: str
    said_by: Address

    def __str__(self) -> str:
        """Return it for the log."""
        by = "the server" if self.said_by == self.host else str(self.said_by)
        return f"ICMP {self.what} from {by}"


def read_ipv4(packet: bytes) -> Unreachable | None:
    """Return what an IPv4 packet says; None if it is about something else."""
    quote = icmp_quote.in_ipv4(packet)
    if quote is None or quote.icmp[0] != _IPV4_TYPE or quote.icmp[1] not in _OF_IPV4:
        return None
    reason, what = _OF_IPV4[quote.icmp[1]]
    return Unreachable(quote.host, quote.port, reason, what, IPv4Address(packet[12:16]))


def read_ipv6(icmp: bytes, sender: str) -> Unreachable | None:
    """Return what an ICMPv6 message from ``sender`` says; None if it is about something else."""
    quote = icmp_quote.in_ipv6(icmp)
    if quote is None or quote.icmp[0] != _IPV6_TYPE or quote.icmp[1] not in _OF_IPV6:
        return None
    reason, what = _OF_IPV6[quote.icmp[1]]
    said_by = IPv6Address(sender.partition("%")[0])
    return Unreachable(quote.host, quote.port, reason, what, said_by)


class UnreachableListener(IcmpListener[Unreachable]):
    """Reads such messages about datagrams from ``ports``, if that is permitted (CAP_NET_RAW)."""

    def __init__(
        self,
        ports: Iterable[int],
        on_message: Callable[[Unreachable], None],
        sockets: SocketMaker = OWN,
    ) -> None:
        """Listen from now on."""
        super().__init__("unreachable", ports, on_message, sockets)
        self.listen(socket.AF_INET, lambda packet, _: read_ipv4(packet))
        self.listen(socket.AF_INET6, read_ipv6)
