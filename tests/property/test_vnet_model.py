"""vnet_check against a naive model of what may be written to a device.

The model is the kernel's rules (include/linux/virtio_net.h: virtio_net_hdr_to_skb, and
skb_partial_csum_set) and, on top of them, what fastun refuses of its own accord:

- any flag but NEEDS_CSUM; a super-packet without NEEDS_CSUM
- on a TUN device, an IP version that the gso_type contradicts, or a TCP header elsewhere than
  behind the IPv4 header
- a TCP header that is not whole; a super-packet without payload; TCP segments under 8 bytes
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDS_CSUM = 1
NONE, TCPV4, TCPV6, UDP_L4, ECN = 0, 1, 4, 5, 0x80
TYPES = [TCPV4, TCPV6, TCPV4 | ECN, TCPV6 | ECN, UDP_L4]
GSO_BY_FRAGS = 0xFFFF
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


def ip_fits(vnet: Vnet, frame: bytes) -> bool:
    """On a TUN device: the transport header stands where the IP header can end."""
    version, kind = frame[0] >> 4, vnet.gso_type & ~ECN
    if kind == TCPV4:
        return version == 4 and vnet.csum_start == (frame[0] & 15) * 4
    if kind == TCPV6:
        return version == 6
    return vnet.csum_start >= (20 if version == 4 else 40)


def expected_packets(vnet: Vnet, frame: bytes, l3: int) -> int:
    """Return the number of packets, -1 when the header must be refused."""
    length = len(frame)
    if vnet.flags & ~NEEDS_CSUM or not kernel_takes(vnet, length, l3):
        return -1
    if vnet.flags and l3 == 0 and not ip_fits(vnet, frame):
        return -1
    if vnet.gso_type == NONE:
        return 1
    if not vnet.flags or vnet.gso_size == GSO_BY_FRAGS:
        return -1
    header = header_end(vnet, frame)
    tcp_too_short = vnet.gso_type != UDP_L4 and vnet.gso_size < 8
    if header is None or header >= length or tcp_too_short:
        return -1
    return math.ceil((length - header) / vnet.gso_size)


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


@st.composite
def sound_cases(draw: st.DrawFn, gso_types: list[int] | None = None) -> Case:
    """A frame as a kernel makes it, with the header that belongs to it."""
    gso_type = draw(st.sampled_from(gso_types or [NONE, *TYPES]))
    kind = gso_type & ~ECN
    version = {TCPV4: 4, TCPV6: 6}.get(kind) or draw(st.sampled_from([4, 6]))
    l3 = draw(st.sampled_from([0, ETHERNET]))
    ip_length = 4 * draw(st.integers(5, 15)) if version == 4 else 40
    transport = l3 + ip_length
    tcp_words = draw(st.integers(5, 15))
    header = transport + (8 if kind == UDP_L4 else 4 * tcp_words)
    payload = draw(st.integers(1, 4000))
    gso_size = draw(st.integers(math.ceil(payload / 64) if kind == UDP_L4 else 8, 1500))
    frame = bytearray(header + payload)
    frame[l3] = version << 4 | (ip_length // 4 if version == 4 else 0)
    if kind != UDP_L4:
        frame[transport + 12] = tcp_words << 4
    if l3:
        frame[12:14] = b"\x08\x00" if version == 4 else b"\x86\xdd"
    needs_csum = gso_type != NONE or draw(st.booleans())
    vnet = Vnet(
        flags=int(needs_csum),
        gso_type=gso_type,
        hdr_len=draw(st.integers(0, 0xFFFF)),
        gso_size=gso_size if gso_type else 0,
        csum_start=transport,
        csum_offset=6 if kind == UDP_L4 else 16,
    )
    return Case(vnet, bytes(frame), l3)


def near(value: int, limit: int) -> st.SearchStrategy[int]:
    """Mostly values around the sound one, where bounds are off by one."""
    around = st.integers(max(0, value - 41), min(limit, value + 41))
    return st.one_of(around, st.sampled_from([0, 1, 7, 8, limit]), st.integers(0, limit))


LIMITS = {"flags": 0xFF, "gso_type": 0xFF, "gso_size": 0xFFFF, "csum_start": 0xFFFF,
          "csum_offset": 0xFFFF}  # fmt: skip


@st.composite
def disturbed_cases(draw: st.DrawFn) -> Case:
    """One field of the header, the frame's end, or a length inside it is not what it was."""
    case = draw(sound_cases())
    what = draw(st.sampled_from([*LIMITS, "length", "ip_header", "ip_length", "tcp_header"]))
    if what in LIMITS:
        value = draw(near(getattr(case.vnet, what), LIMITS[what]))
        return replace(case, vnet=replace(case.vnet, **{what: value}))
    frame = bytearray(case.frame)
    if what == "ip_length":  # and an offload header that believes it
        words = draw(st.integers(0, 15))
        start = case.l3 + 4 * words
        frame[case.l3] = frame[case.l3] & 0xF0 | words
        frame[min(start + 12, len(frame) - 1)] = 5 << 4
        return Case(replace(case.vnet, csum_start=start), bytes(frame), case.l3)
    if what == "length":
        ends = st.one_of(st.integers(1, 140), near(case.vnet.csum_start, len(frame)))
        return replace(case, frame=bytes(frame[: max(case.l3 + 1, draw(ends))]))
    at = case.l3 if what == "ip_header" else min(case.vnet.csum_start + 12, len(frame) - 1)
    frame[at] = draw(st.integers(0, 255))
    return replace(case, frame=bytes(frame))


def check(internals: Any, case: Case) -> tuple[int, Any]:
    ffi, lib = internals
    vnet = ffi.new("struct vnet *", vars(case.vnet))
    return lib.vnet_check(vnet, case.frame, len(case.frame), case.l3), vnet


# -- the claims ------------------------------------------------------------------------------------


@given(case=sound_cases())
def test_what_a_kernel_makes_passes_with_the_number_of_its_packets(
    internals: Any, case: Case
) -> None:
    n_packets, vnet = check(internals, case)
    assert n_packets == expected_packets(case.vnet, case.frame, case.l3)
    assert n_packets >= 1
    assert vnet.hdr_len == (header_end(case.vnet, case.frame) if case.vnet.gso_type else 0)


@settings(max_examples=10 * settings().max_examples)
@given(case=disturbed_cases())
def test_a_disturbed_header_is_judged_as_the_model_does(internals: Any, case: Case) -> None:
    n_packets, _ = check(internals, case)
    assert n_packets == expected_packets(case.vnet, case.frame, case.l3)


def near_every_bound(case: Case) -> Iterator[Case]:
    length = len(case.frame)
    values = [*range(160), *range(length - 90, length + 3), 0x7FFF, 0x8000, 0xFFFE, 0xFFFF]
    for field, limit in LIMITS.items():
        for value in values:
            yield replace(case, vnet=replace(case.vnet, **{field: value & limit}))
    for end in range(case.l3 + 1, length):
        yield replace(case, frame=case.frame[:end])


@pytest.mark.parametrize("l3", [0, ETHERNET])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("gso_type", [NONE, *TYPES])
def test_each_field_is_judged_as_the_model_does_at_every_bound(
    internals: Any, gso_type: int, version: int, l3: int
) -> None:
    transport = l3 + (20 if version == 4 else 40)
    offset = 6 if gso_type == UDP_L4 else 16
    frame = bytearray(transport + 20 + 200)
    frame[l3], frame[transport + 12] = version << 4 | 5, 5 << 4
    sound = Case(Vnet(NEEDS_CSUM, gso_type, 0, 50, transport, offset), bytes(frame), l3)
    for case in near_every_bound(sound):
        n_packets, _ = check(internals, case)
        assert n_packets == expected_packets(case.vnet, case.frame, l3), case.vnet


@given(
    vnet=st.builds(Vnet, *[st.integers(0, 255)] * 2, *[st.integers(0, 0xFFFF)] * 4),
    frame=st.binary(min_size=1, max_size=200),
    l3=st.sampled_from([0, ETHERNET]),
)
def test_garbage_is_judged_as_the_model_does(
    internals: Any, vnet: Vnet, frame: bytes, l3: int
) -> None:
    n_packets, _ = check(internals, Case(vnet, frame, l3))
    assert n_packets == expected_packets(vnet, frame, l3)


@given(case=sound_cases(gso_types=[UDP_L4]), n_segments=st.integers(60, 68), tail=st.integers(0, 9))
def test_a_udp_super_packet_has_64_segments_at_most(
    internals: Any, case: Case, n_segments: int, tail: int
) -> None:
    size = 10
    header = case.frame[: case.vnet.csum_start + 8]
    frame = header + bytes(n_segments * size - tail)
    n_packets, _ = check(internals, Case(replace(case.vnet, gso_size=size), frame, case.l3))
    assert n_packets == (n_segments if n_segments <= 64 else -1)


@given(raw=st.binary(min_size=12, max_size=12))
def test_a_header_is_written_as_it_was_read(internals: Any, raw: bytes) -> None:
    ffi, lib = internals
    vnet, written = lib.vnet_read(raw), ffi.new("uint8_t[12]")
    assert vnet.gso_size == int.from_bytes(raw[4:6], "little")
    assert vnet.csum_start == int.from_bytes(raw[6:8], "little")
    lib.vnet_write(ffi.new("struct vnet *", vnet), written)
    assert bytes(written) == raw[:10] + bytes(2)
