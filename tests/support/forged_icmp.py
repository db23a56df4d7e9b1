"""ICMP "fragmentation needed" and "packet too big", forged: by a stranger, or by who sees packets.

A stranger knows addresses and ports. Who stands on the path knows the datagrams as well.
"""

from __future__ import annotations

import socket
import struct
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastun.lab.host import Host

_ETH_P_ALL = 3
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"


def checksum(content: bytes) -> int:
    total = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def datagram_head(
    source: tuple[str, int], destination: tuple[str, int], payload: bytes = b""
) -> bytes:
    """The first bytes of an IP packet of 1500 with a UDP datagram, as a router quotes it."""
    n = 1500
    here, there = (ip_address(host).packed for host, _ in (source, destination))
    if len(here) == 4:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, n, 1, 0x4000, 64, 17, 0) + here + there
    else:
        ip = struct.pack("!IHBB", 0x60000000, n - 40, 17, 64) + here + there
    return ip + struct.pack("!HHHH", source[1], destination[1], n - len(ip), 0) + payload


def data_head(index: int, counter: int) -> bytes:
    """The first 16 bytes of a data message."""
    return struct.pack("<B3xIQ", 4, index, counter)


def too_big(quote: bytes, mtu: int) -> bytes:
    """The ICMP message; the kernel makes the checksum of ICMPv6."""
    if quote[0] >> 4 == 6:
        return struct.pack("!BBHI", 2, 0, 0, mtu) + quote
    quote += bytes(len(quote) % 2)
    message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quote
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def forge(attacker: Host, victim: str, messages: list[bytes], interval_s: float = 0.0) -> None:
    """Send them from the attacker's own address to the victim."""
    is_ipv6 = ":" in victim
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if is_ipv6 else socket.IPPROTO_ICMP
    raw = attacker.inside(lambda: socket.socket(family, socket.SOCK_RAW, protocol))
    with raw:
        for message in messages:
            raw.sendto(message, (victim, 0))
            time.sleep(interval_s)


def last_data_seen(host: Host, device: str, source: str, timeout_s: float = 3.0) -> bytes:
    """The first 16 bytes of the newest data message from `source` that passes `device`."""
    raw = host.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender, found, until_s = ip_address(source).packed, b"", time.monotonic() + timeout_s
    with raw:
        raw.bind((device, _ETH_P_ALL))
        raw.settimeout(0.2)
        while time.monotonic() < until_s:
            try:
                frame = raw.recv(65536)
            except TimeoutError:
                if found:
                    return found
                continue
            packet = frame[14:]
            is_ipv4 = frame[12:14] == _IPV4
            header, at = (20, 12) if is_ipv4 else (40, 8)
            if packet[at : at + len(sender)] != sender or packet[9 if is_ipv4 else 6] != 17:
                continue
            payload = packet[header + 8 :]
            if payload[:1] in (b"\x04", b"\x05"):
                found = payload[:16]
    return found
