"""A naive model of splitting, by the RFCs, a word at a time.

IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293), UDP (RFC 768), the checksum (RFC 1071); that FIN
and PSH belong to the last segment, CWR to the first, and that the identification counts up, is
Linux's way (net/ipv4/tcp_offload.c).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDS_CSUM = 1
TCPV4, TCPV6, UDP_L4, ECN = 1, 4, 5, 0x80
TCP, UDP = 6, 17
FIN, PSH, ACK, ECE, CWR = 0x01, 0x08, 0x10, 0x40, 0x80
DONT_FRAGMENT = 0x40
GROUP_MAX = 64
SOURCE = {4: bytes([10, 9, 0, 2]), 6: bytes([0xFD, 9, *bytes(13), 2])}
DESTINATION = {4: bytes([10, 10, 0, 2]), 6: bytes([0xFD, 10, *bytes(13), 2])}


@dataclass(frozen=True)
class Flow:
    """Everything in the headers of one super-packet, or of one segment."""

    version: int
    protocol: int
    identification: int = 0
    dont_fragment: bool = False
    traffic_class: int = 0
    ip_options: bytes = b""
    extensions: tuple[tuple[int, bytes], ...] = ()
    sequence: int = 0
    flags: int = ACK
    tcp_options: bytes = b""

    @property
    def header_bytes(self) -> int:
        return len(packet_of(self, b""))

    @property
    def transport(self) -> int:
        return self.header_bytes - len(transport_header(self, b""))


def word_sum(data: bytes) -> int:
    padded = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(padded[i : i + 2]) for i in range(0, len(padded), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ipv4_header(flow: Flow, n_behind: int) -> bytes:
    words = 5 + len(flow.ip_options) // 4
    length = 4 * words + n_behind
    before = bytes([0x40 | words, flow.traffic_class]) + length.to_bytes(2)
    before += flow.identification.to_bytes(2) + bytes([DONT_FRAGMENT * flow.dont_fragment, 0])
    before += bytes([64, flow.protocol])
    after = SOURCE[4] + DESTINATION[4] + flow.ip_options
    checksum = 0xFFFF - word_sum(before + after)
    return before + checksum.to_bytes(2) + after


def ipv6_headers(flow: Flow, n_behind: int) -> bytes:
    kinds = [kind for kind, _ in flow.extensions] + [flow.protocol]
    behind = b"".join(
        bytes([next_kind, len(content) // 8]) + content
        for next_kind, (_, content) in zip(kinds[1:], flow.extensions, strict=True)
    )
    first = (6 << 28 | flow.traffic_class << 20 | 0x12345).to_bytes(4)
    length = (len(behind) + n_behind).to_bytes(2)
    return first + length + bytes([kinds[0], 64]) + SOURCE[6] + DESTINATION[6] + behind


def transport_header(flow: Flow, payload: bytes, checksum: int = 0) -> bytes:
    if flow.protocol == UDP:
        length = 8 + len(payload)
        return bytes([0x13, 0x88, 0x14, 0xB5]) + length.to_bytes(2) + checksum.to_bytes(2)
    words = 5 + len(flow.tcp_options) // 4
    ports_and_numbers = bytes([0x13, 0x88, 0x14, 0xB5]) + flow.sequence.to_bytes(4) + b"\0\0\1\2"
    rest = bytes([words << 4, flow.flags, 0x20, 0]) + checksum.to_bytes(2) + b"\0\0"
    return ports_and_numbers + rest + flow.tcp_options


def pseudo_header(flow: Flow, n_bytes: int) -> bytes:
    addresses = SOURCE[flow.version] + DESTINATION[flow.version]
    return addresses + n_bytes.to_bytes(4) + bytes([0, 0, 0, flow.protocol])


def packet_with(flow: Flow, payload: bytes, checksum: int) -> bytes:
    upper = transport_header(flow, payload, checksum) + payload
    ip = ipv4_header if flow.version == 4 else ipv6_headers
    return ip(flow, len(upper)) + upper


def packet_of(flow: Flow, payload: bytes) -> bytes:
    """A whole packet, as the network sees it."""
    upper = transport_header(flow, payload) + payload
    checksum = 0xFFFF - word_sum(pseudo_header(flow, len(upper)) + upper)
    if flow.protocol == UDP and checksum == 0:
        checksum = 0xFFFF
    return packet_with(flow, payload, checksum)


def super_packet_of(flow: Flow, payload: bytes) -> bytes:
    """As a kernel hands it over: in the checksum's place stands the pseudo-header's sum."""
    n_bytes = len(transport_header(flow, payload)) + len(payload)
    return packet_with(flow, payload, word_sum(pseudo_header(flow, n_bytes)))


def model_split(flow: Flow, payload: bytes, size: int) -> Iterator[bytes]:
    starts = range(0, len(payload), size)
    for i, start in enumerate(starts):
        kept = 0xFF
        if i > 0:
            kept &= ~CWR
        if i < len(starts) - 1:
            kept &= ~(FIN | PSH)
        segment = replace(
            flow,
            identification=(flow.identification + i) % 2**16,
            sequence=(flow.sequence + start) % 2**32,
            flags=flow.flags & kept,
        )
        yield packet_of(segment, payload[start : start + size])
