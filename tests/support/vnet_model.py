"""A naive model of what may be written to a device, and the frames that it is asked about.

The model is the kernel's rules (include/linux/virtio_net.h: virtio_net_hdr_to_skb, and
skb_partial_csum_set) and, on top of them, what fastun refuses of its own accord:

- any flag but NEEDS_CSUM; a super-packet without NEEDS_CSUM
- a checksum that is not the TCP or UDP header's to which the packet's own headers lead: behind two
  VLAN tags at most, IPv4 options, four IPv6 options and routing headers; no fragment's
- a gso_type that is not that of protocol and IP version; a super-packet that is not as long as its
  IP header says
- a TCP header that is not whole; a super-packet without payload
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NEEDS_CSUM = 1
NONE, TCPV4, TCPV6, UDP_L4, ECN = 0, 1, 4, 5, 0x80
TYPES = [TCPV4, TCPV6, TCPV4 | ECN, TCPV6 | ECN, UDP_L4]
GSO_BY_FRAGS = 0xFFFF
TCP, UDP = 6, 17
ETHERNET = 14


@dataclass(frozen=True)
class Vnet:
    flags: int = 0
    gso_type: int = NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0


# -- the model -------------------------------------------------------------------------------------


def kernel_takes(vnet: Vnet, length: int, l3: int) -> bool:
    kind = vnet.gso_type & ~ECN
    if vnet.gso_type != NONE and (kind not in (TCPV4, TCPV6, UDP_L4) or vnet.gso_size == 0):
        return False
    if vnet.flags & NEEDS_CSUM:
        transport_min = {TCPV4: 20, TCPV6: 20, UDP_L4: 8}.get(kind, 0)
        network_min = 40 if kind == TCPV6 else 20
        if vnet.csum_start + max(transport_min, vnet.csum_offset + 2) > length:
            return False
        if vnet.csum_start < l3 + network_min:
            return False
    if kind == UDP_L4:
        payload = length - vnet.csum_start - 8
        return vnet.csum_offset == 6 and payload <= vnet.gso_size * 64 and not vnet.gso_type & ECN
    if kind in (TCPV4, TCPV6):
        return vnet.csum_offset == 16
    return True


@dataclass(frozen=True)
class Headers:
    """What the packet's own headers say, in offsets from the frame's start."""

    ip: int
    version: int
    protocol: int
    transport: int
    end: int  # where the packet ends, by its IP header


def ip_begins(frame: bytes, l3: int) -> int | None:
    """Behind the VLAN tags; None when the Ethernet header does not announce what is there."""
    if l3 == 0:
        return 0
    at = l3
    while frame[at - 2 : at] in (b"\x81\x00", b"\x88\xa8") and at < l3 + 8:
        at += 4
    announced = {b"\x08\x00": 4, b"\x86\xdd": 6}.get(frame[at - 2 : at])
    return at if len(frame) > at and announced == frame[at] >> 4 else None


def walk(frame: bytes, l3: int) -> Headers | None:
    ip = ip_begins(frame, l3)
    if ip is None:
        return None
    packet = frame[ip:]
    if packet[0] >> 4 == 4 and len(packet) >= 20:
        header = (packet[0] & 15) * 4
        is_fragment = int.from_bytes(packet[6:8]) & 0x3FFF != 0
        if header < 20 or is_fragment:
            return None
        return Headers(ip, 4, packet[9], ip + header, ip + int.from_bytes(packet[2:4]))
    if packet[0] >> 4 == 6 and len(packet) >= 40:
        kind, at, n = packet[6], 40, 0
        while kind in (0, 43, 60) and n < 4:
            if at + 8 > len(packet):
                return None
            kind, at, n = packet[at], at + 8 + packet[at + 1] * 8, n + 1
        return Headers(ip, 6, kind, ip + at, ip + 40 + int.from_bytes(packet[4:6]))
    return None


def expected_packets(vnet: Vnet, frame: bytes, l3: int) -> int:
    """Return the number of packets, -1 when the header must be refused."""
    if vnet.flags & ~NEEDS_CSUM or not kernel_takes(vnet, len(frame), l3):
        return -1
    if not vnet.flags:
        return 1 if vnet.gso_type == NONE else -1
    headers = walk(frame, l3)
    if headers is None or headers.protocol not in (TCP, UDP):
        return -1
    whole, place = (20, 16) if headers.protocol == TCP else (8, 6)
    if headers.transport + whole > len(frame):
        return -1
    if (vnet.csum_start, vnet.csum_offset) != (headers.transport, place):
        return -1
    return 1 if vnet.gso_type == NONE else expected_segments(vnet, frame, headers)


def expected_segments(vnet: Vnet, frame: bytes, headers: Headers) -> int:
    tcp = TCPV4 if headers.version == 4 else TCPV6
    if vnet.gso_type & ~ECN != (UDP_L4 if headers.protocol == UDP else tcp):
        return -1
    if headers.end != len(frame) or vnet.gso_size == GSO_BY_FRAGS:
        return -1
    header = header_end(vnet, frame)
    if header is None or header >= len(frame):
        return -1
    return math.ceil((len(frame) - header) / vnet.gso_size)


def header_end(vnet: Vnet, frame: bytes) -> int | None:
    if vnet.gso_type == UDP_L4:
        return vnet.csum_start + 8
    tcp_header = (frame[vnet.csum_start + 12] >> 4) * 4
    end = vnet.csum_start + tcp_header
    return end if tcp_header >= 20 and end <= len(frame) else None


# -- what it is tried on ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    vnet: Vnet
    frame: bytes
    l3: int


def ipv4_header(n_options: int, protocol: int, n_behind: int) -> bytes:
    words = 5 + n_options
    length = 4 * words + n_behind
    return bytes([0x40 | words, 0, *length.to_bytes(2), 0, 0, 0, 0, 64, protocol]) + bytes(
        10 + 4 * n_options
    )


def ipv6_headers(extensions: list[tuple[int, int]], protocol: int, n_behind: int) -> bytes:
    """The IPv6 header and, of each type and length in units of 8 bytes, what follows it."""
    kinds = [kind for kind, _ in extensions] + [protocol]
    behind = b"".join(
        bytes([kinds[i + 1], units]) + bytes(6 + 8 * units)
        for i, (_, units) in enumerate(extensions)
    )
    length = len(behind) + n_behind
    return bytes([0x60, 0, 0, 0, *length.to_bytes(2), kinds[0], 64]) + bytes(32) + behind


TAGS = [b"\x88\xa8\x00\x01", b"\x81\x00\x00\x02"]


def ethernet_header(version: int, n_tags: int) -> bytes:
    tags = b"".join(TAGS[2 - n_tags :])
    return bytes(12) + tags + (b"\x08\x00" if version == 4 else b"\x86\xdd")


def transport_header(protocol: int, n_options: int) -> bytes:
    if protocol == UDP:
        return bytes(8)
    return bytes(12) + bytes([(5 + n_options) << 4]) + bytes(7 + 4 * n_options)


def frame_of(
    version: int,
    protocol: int,
    *,
    payload: int = 200,
    l3: int = 0,
    n_tags: int = 0,
    ip_options: int = 0,
    extensions: list[tuple[int, int]] | None = None,
    tcp_options: int = 0,
) -> tuple[bytes, int]:
    """Return a frame and where its transport's header begins."""
    upper = transport_header(protocol, tcp_options) + bytes(payload)
    ip = (
        ipv4_header(ip_options, protocol, len(upper))
        if version == 4
        else ipv6_headers(extensions or [], protocol, len(upper))
    )
    ethernet = ethernet_header(version, n_tags) if l3 else b""
    return ethernet + ip + upper, len(ethernet + ip)
