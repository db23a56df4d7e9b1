"""Splitting super-packets and putting packets together, against a naive model and each other.

The model cuts a super-packet by the RFCs, a word at a time: IPv4 (RFC 791), IPv6 (RFC 8200), TCP
(RFC 9293), UDP (RFC 768), the checksum (RFC 1071); that FIN and PSH belong to the last segment, CWR
to the first, and that the identification counts up, is Linux's way (net/ipv4/tcp_offload.c).

What csrc/packet/gro.c puts together is written as csrc/inbound/frame_writer.c does it: a packet
that does not continue the group ends it. Whatever the packets, splitting what comes out must give
them back; only identifications that were all equal, which with DF say nothing (RFC 6864 4.1), may
count up.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.split_model import (
    ACK,
    CWR,
    DONT_FRAGMENT,
    ECE,
    ECN,
    FIN,
    GROUP_MAX,
    NEEDS_CSUM,
    PSH,
    TCP,
    TCPV4,
    TCPV6,
    UDP,
    UDP_L4,
    Flow,
    model_split,
    packet_of,
    pseudo_header,
    super_packet_of,
    transport_header,
    word_sum,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.property.conftest import Internals


# -- the code under test ---------------------------------------------------------------------------


def split(internals: Internals, header: bytes, frame: bytes) -> list[bytes]:
    """The packets of a frame behind a virtio_net_hdr, which has to pass the check."""
    ffi, lib = internals
    vnet = ffi.new("struct vnet *", lib.vnet_read(header))
    assert lib.vnet_check_local(vnet, frame, len(frame), 0) >= 1
    if vnet.gso_type == 0:
        return [frame]
    gso, borrowed = ffi.new("struct gso_split *"), ffi.new("uint8_t[]", list(frame))
    segments = []
    for i in range(lib.gso_split_begin(gso, vnet, borrowed, len(frame))):
        written = ffi.new("uint8_t[]", lib.gso_segment_length(gso, i))
        lib.gso_write_segment(gso, i, written)
        segments.append(bytes(written))
    return segments


def coalesce(internals: Internals, packets: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The frames that would be written: a virtio_net_hdr and what is behind it."""
    ffi, lib = internals
    group = ffi.new("struct gro_group *")
    borrowed = [ffi.new("uint8_t[]", list(packet)) for packet in packets]
    frames: list[tuple[bytes, bytes]] = []
    waiting: list[bytes] = []

    def end() -> None:
        if len(waiting) > 1:
            parts = group.iov[0 : lib.gro_finish(group)]
            frame = b"".join(bytes(ffi.buffer(part.iov_base, part.iov_len)) for part in parts)
            frames.append((frame[:12], frame[12:]))
        else:
            frames.extend((bytes(12), packet) for packet in waiting)
        waiting.clear()
        group.n_packets = 0

    for packet, own in zip(packets, borrowed, strict=True):
        if not lib.gro_extend(group, own, len(packet)):
            end()
            lib.gro_begin(group, own, len(packet), 0)
        waiting.append(packet)
    end()
    assert all(bytes(own) == packet for own, packet in zip(borrowed, packets, strict=True))
    return frames


def without_identification(packet: bytes) -> bytes:
    return packet[:4] + packet[6:10] + packet[12:] if packet[0] >> 4 == 4 else packet


def check_given_back(internals: Internals, packets: Sequence[bytes]) -> list[int]:
    """Splitting what was put together gives `packets` back. Returns how many stood in each."""
    sizes = []
    rest = iter(packets)
    for header, frame in coalesce(internals, packets):
        segments = split(internals, header, frame)
        originals = list(itertools.islice(rest, len(segments)))
        sizes.append(len(segments))
        identifications = {packet[4:6] for packet in originals}
        if len(segments) > 1 and len(identifications) == 1 and frame[6] & DONT_FRAGMENT:
            originals = [without_identification(packet) for packet in originals]
            segments = [without_identification(packet) for packet in segments]
        assert segments == originals
    assert next(rest, None) is None
    return sizes


# -- what it is tried on ---------------------------------------------------------------------------

NEAR_WRAP = {16: st.integers(0xFFF0, 0xFFFF), 32: st.integers(2**32 - 9000, 2**32 - 1)}


def numbers(bits: int) -> st.SearchStrategy[int]:
    return st.one_of(NEAR_WRAP[bits], st.integers(0, 2**bits - 1))


def units(size: int, most: int) -> st.SearchStrategy[bytes]:
    """Bytes by `size`."""
    return st.integers(0, most).flatmap(lambda n: st.binary(min_size=size * n, max_size=size * n))


@st.composite
def extension_headers(draw: st.DrawFn) -> tuple[tuple[int, bytes], ...]:
    kinds = draw(st.lists(st.sampled_from([0, 43, 60]), max_size=4))
    return tuple((kind, bytes(6) + draw(units(8, 3))) for kind in kinds)


@st.composite
def flows(draw: st.DrawFn, *, is_plain: bool = False) -> Flow:
    """With `is_plain`, what gro.c takes: no options in IP, no flag but ACK and PSH."""
    version, protocol = draw(st.sampled_from([4, 6])), draw(st.sampled_from([TCP, UDP]))
    options = b"" if is_plain or version == 6 else draw(units(4, 10))
    extensions = () if is_plain or version == 4 else draw(extension_headers())
    rare = 0 if is_plain else draw(st.integers(0, 0xFF))
    return Flow(
        version=version,
        protocol=protocol,
        identification=draw(numbers(16)) if version == 4 else 0,
        dont_fragment=version == 4 and draw(st.booleans()),
        traffic_class=draw(st.sampled_from([0, 1, 2, 3, 0xB8])),
        ip_options=options,
        extensions=extensions,
        sequence=draw(numbers(32)) if protocol == TCP else 0,
        flags=ACK | rare | (PSH if draw(st.booleans()) else 0),
        tcp_options=draw(units(4, 10)) if protocol == TCP else b"",
    )


@dataclass(frozen=True)
class Case:
    flow: Flow
    payload: bytes
    size: int

    @property
    def segments(self) -> list[bytes]:
        return list(model_split(self.flow, self.payload, self.size))


def with_checksum_zero(case: Case) -> Case:
    """The first segment's last word is such that its checksum comes out as 0."""
    first = case.payload[: case.size]
    if len(first) < 2 or len(first) % 2:
        return case
    zeroed = first[:-2] + bytes(2)
    upper = transport_header(first_segment(case).flow, zeroed) + zeroed
    rest = 0xFFFF - word_sum(pseudo_header(case.flow, len(upper)) + upper)
    return replace(case, payload=zeroed[:-2] + rest.to_bytes(2) + case.payload[len(first) :])


def first_segment(case: Case) -> Case:
    is_last = len(case.payload) <= case.size
    flags = case.flow.flags if is_last else case.flow.flags & ~(FIN | PSH)
    return Case(replace(case.flow, flags=flags), case.payload[: case.size], case.size)


@st.composite
def cases(draw: st.DrawFn, *, is_plain: bool = False) -> Case:
    flow = draw(flows(is_plain=is_plain))
    size = draw(st.one_of(st.integers(8, 40), st.integers(1, 1460)))
    size = max(size, 8 if flow.protocol == TCP else 1)
    n_segments = draw(st.integers(1, min(GROUP_MAX, 12_000 // size)))
    last = draw(st.integers(1, size))
    seed = draw(st.binary(min_size=1, max_size=64))
    payload = (seed * ((n_segments * size) // len(seed) + 1))[: (n_segments - 1) * size + last]
    case = Case(flow, payload, size)
    return with_checksum_zero(case) if draw(st.booleans()) else case


def offload_header(internals: Internals, case: Case) -> bytes:
    flow = case.flow
    kind = UDP_L4 if flow.protocol == UDP else TCPV4 if flow.version == 4 else TCPV6
    if flow.protocol == TCP and flow.flags & CWR:
        kind |= ECN
    place = 6 if flow.protocol == UDP else 16
    fields = (NEEDS_CSUM, kind, flow.header_bytes, case.size, flow.transport, place)
    written = internals.ffi.new("uint8_t[12]")
    internals.lib.vnet_write(internals.ffi.new("struct vnet *", fields), written)
    return bytes(written)


# -- the claims ------------------------------------------------------------------------------------


@given(case=cases())
def test_a_super_packet_is_split_as_the_model_does(internals: Internals, case: Case) -> None:
    frame = super_packet_of(case.flow, case.payload)
    assert split(internals, offload_header(internals, case), frame) == case.segments


@given(case=cases())
def test_a_checksum_that_comes_out_as_zero_is_ones_in_udp_only(
    internals: Internals, case: Case
) -> None:
    assume(len(case.payload[: case.size]) % 2 == 0)
    case = with_checksum_zero(case)
    frame = super_packet_of(case.flow, case.payload)
    first = split(internals, offload_header(internals, case), frame)[0]
    is_udp = case.flow.protocol == UDP
    at = case.flow.transport + (6 if is_udp else 16)
    assert first[at : at + 2] == (b"\xff\xff" if is_udp else bytes(2))


@given(case=cases(is_plain=True))
def test_what_was_split_becomes_the_same_super_packet_again(
    internals: Internals, case: Case
) -> None:
    segments = case.segments
    header = offload_header(internals, case)
    expected = (header, super_packet_of(case.flow, case.payload))
    if len(segments) == 1:
        expected = (bytes(12), segments[0])
    assert coalesce(internals, segments) == [expected]


@given(runs=st.lists(cases(), min_size=1, max_size=3))
def test_whatever_is_put_together_is_given_back(internals: Internals, runs: list[Case]) -> None:
    packets = [segment for case in runs for segment in case.segments]
    check_given_back(internals, packets)


@given(case=cases(is_plain=True), data=st.data())
def test_a_changed_byte_is_given_back_where_it_stood(
    internals: Internals, case: Case, data: st.DataObject
) -> None:
    packets = case.segments
    which = data.draw(st.integers(0, len(packets) - 1))
    at = data.draw(
        st.one_of(
            st.integers(0, min(case.flow.header_bytes, len(packets[which]) - 1)),
            st.integers(0, len(packets[which]) - 1),
        )
    )
    changed = bytearray(packets[which])
    changed[at] ^= data.draw(st.integers(1, 255))
    packets[which] = bytes(changed)
    check_given_back(internals, packets)


@given(case=cases(is_plain=True), data=st.data())
def test_a_changed_field_with_right_checksums_is_given_back_as_well(
    internals: Internals, case: Case, data: st.DataObject
) -> None:
    """The checksums would show the other test's; here only the fields themselves can."""
    packets = case.segments
    which = data.draw(st.integers(0, len(packets) - 1))
    start = which * case.size
    flow = replace(
        case.flow,
        identification=(case.flow.identification + which) % 2**16 if case.flow.version == 4 else 0,
        sequence=(case.flow.sequence + start) % 2**32,
    )
    change = data.draw(st.sampled_from(CHANGES))
    changed = replace(flow, **change(flow))
    packets[which] = packet_of(changed, case.payload[start : start + case.size])
    check_given_back(internals, packets)


CHANGES: list[Any] = [
    lambda flow: {"identification": (flow.identification + 1) % 2**16},
    lambda flow: {"identification": (flow.identification - 1) % 2**16},
    lambda flow: {"dont_fragment": not flow.dont_fragment},
    lambda flow: {"traffic_class": flow.traffic_class ^ 1},
    lambda flow: {"sequence": (flow.sequence + 1) % 2**32},
    lambda flow: {"flags": flow.flags ^ PSH},
    lambda flow: {"flags": flow.flags | FIN},
    lambda flow: {"flags": flow.flags | CWR},
    lambda flow: {"flags": flow.flags | ECE},
    lambda flow: {"tcp_options": flow.tcp_options[4:] + b"\1\1\1\1"},
    lambda _: {"ip_options": b"\1\1\1\1"},
    lambda _: {"extensions": ((60, bytes(6)),)},
]


@given(case=cases(is_plain=True), data=st.data())
def test_packets_in_any_order_are_given_back_in_it(
    internals: Internals, case: Case, data: st.DataObject
) -> None:
    packets = case.segments
    first, second = (data.draw(st.integers(0, len(packets) - 1)) for _ in range(2))
    packets[first], packets[second] = packets[second], packets[first]
    check_given_back(internals, packets)


@given(case=cases(is_plain=True), n_packets=st.integers(2, 20))
def test_equal_identifications_are_put_together_where_they_say_nothing(
    internals: Internals, case: Case, n_packets: int
) -> None:
    flow, size = replace(case.flow, version=4, flags=ACK), max(case.size, 8)
    payloads = [bytes([i]) * size for i in range(n_packets)]
    packets = [
        packet_of(replace(flow, sequence=(flow.sequence + i * size) % 2**32), payload)
        for i, payload in enumerate(payloads)
    ]
    sizes = check_given_back(internals, packets)
    assert sizes == ([n_packets] if flow.dont_fragment else [1] * n_packets)
