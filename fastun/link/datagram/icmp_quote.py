"""What an ICMP message quotes of a datagram of ours, as raw sockets give it.

Our datagrams have no options in their IPv4 header; IPv6 has no other header before UDP's.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

_UDP: Final = 17
_IPV4_PLAIN, _FRAGMENT_OFFSET = 0x45, 0x1FFF
_ICMP_BYTES, _UDP_BYTES, _IPV4_BYTES, _IPV6_BYTES = 8, 8, 20, 40


class Quote(NamedTuple):
    """The message's header, where the datagram went, and the datagram from its UDP header on.

    ``length`` is that of the whole IP packet.
    """

    icmp: bytes
    host: IPv4Address | IPv6Address
    length: int
    udp: bytes

    @property
    def port(self) -> int:
        """Where the datagram went."""
        return int.from_bytes(self.udp[2:4], "big")


def in_ipv4(packet: bytes) -> Quote | None:
    """Return what an IPv4 packet quotes; None if it is not a message about UDP."""
    if len(packet) < _IPV4_BYTES or len(packet) < (packet[0] & 15) * 4 + _ICMP_BYTES:
        return None
    icmp = packet[(packet[0] & 15) * 4 :]
    quote = icmp[_ICMP_BYTES:]
    if len(quote) < _IPV4_BYTES + _UDP_BYTES or quote[0] != _IPV4_PLAIN or quote[9] != _UDP:
        return None
    if int.from_bytes(quote[6:8], "big") & _FRAGMENT_OFFSET:  # a later one, without a UDP header
        return None
    length = int.from_bytes(quote[2:4], "big")
    return Quote(icmp[:_ICMP_BYTES], IPv4Address(quote[16:20]), length, quote[_IPV4_BYTES:])


def in_ipv6(icmp: bytes) -> Quote | None:
    """Return what an ICMPv6 message quotes; None if it is not about UDP."""
    quote = icmp[_ICMP_BYTES:]
    if len(quote) < _IPV6_BYTES + _UDP_BYTES or quote[6] != _UDP:
        return None
    length = int.from_bytes(quote[4:6], "big") + _IPV6_BYTES
    return Quote(icmp[:_ICMP_BYTES], IPv6Address(quote[24:40]), length, quote[_IPV6_BYTES:])
