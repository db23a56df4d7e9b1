"""vnet_check against the naive model of tests/support/vnet_model.py."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.vnet_model import (
    ECN,
    ETHERNET,
    NEEDS_CSUM,
    NONE,
    TCP,
    TCPV4,
    TCPV6,
    TYPES,
    UDP,
    UDP_L4,
    Case,
    Vnet,
    expected_packets,
    frame_of,
    header_end,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@st.composite
def sound_cases(draw: st.DrawFn, gso_types: list[int] | None = None) -> Case:
    """A frame as a kernel makes it, with the header that belongs to it."""
    gso_type = draw(st.sampled_from(gso_types or [NONE, *TYPES]))
    kind = gso_type & ~ECN
    version = {TCPV4: 4, TCPV6: 6}.get(kind) or draw(st.sampled_from([4, 6]))
    protocol = {UDP_L4: UDP, NONE: draw(st.sampled_from([TCP, UDP]))}.get(kind, TCP)
    payload = draw(st.integers(1, 4000))
    gso_size = draw(st.integers(math.ceil(payload / 64) if kind == UDP_L4 else 1, 1500))
    extension = st.tuples(st.sampled_from([0, 43, 60]), st.integers(0, 3))
    l3 = draw(st.sampled_from([0, ETHERNET]))
    frame, transport = frame_of(
        version,
        protocol,
        payload=payload,
        l3=l3,
        n_tags=draw(st.integers(0, 2)),
        ip_options=draw(st.integers(0, 10)),
        extensions=draw(st.lists(extension, max_size=4)),
        tcp_options=draw(st.integers(0, 10)),
    )
    needs_csum = gso_type != NONE or draw(st.booleans())
    vnet = Vnet(
        flags=int(needs_csum),
        gso_type=gso_type,
        hdr_len=draw(st.integers(0, 0xFFFF)),
        gso_size=gso_size if gso_type else 0,
        csum_start=transport,
        csum_offset=6 if protocol == UDP else 16,
    )
    return Case(vnet, frame, l3)


def near(value: int, limit: int) -> st.SearchStrategy[int]:
    """Mostly values around the sound one, where bounds are off by one."""
    around = st.integers(max(0, value - 41), min(limit, value + 41))
    return st.one_of(around, st.sampled_from([0, 1, 7, 8, limit]), st.integers(0, limit))


LIMITS = {"flags": 0xFF, "gso_type": 0xFF, "gso_size": 0xFFFF, "csum_start": 0xFFFF,
          "csum_offset": 0xFFFF}  # fmt: skip


@st.composite
def disturbed_cases(draw: st.DrawFn) -> Case:
    """One field of the header, the frame's end, or a byte of the headers is not what it was."""
    case = draw(sound_cases())
    what = draw(st.sampled_from([*LIMITS, "length", "header", "believed"]))
    if what in LIMITS:
        value = draw(near(getattr(case.vnet, what), LIMITS[what]))
        return replace(case, vnet=replace(case.vnet, **{what: value}))
    if what == "length":
        ends = st.one_of(st.integers(1, 140), near(case.vnet.csum_start, len(case.frame)))
        return replace(case, frame=case.frame[: max(case.l3 + 1, draw(ends))])
    frame = bytearray(case.frame)
    at = draw(st.integers(max(0, case.l3 - 2), min(case.vnet.csum_start + 13, len(frame) - 1)))
    frame[at] = draw(st.integers(0, 255))
    headers = walk(bytes(frame), case.l3)
    if what == "believed" and headers is not None:  # by an offload header that says the same
        offset = 6 if headers.protocol == UDP else 16
        vnet = replace(case.vnet, csum_start=headers.transport & 0xFFFF, csum_offset=offset)
        return Case(vnet, bytes(frame), case.l3)
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
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("is_super", [False, True])
def test_each_field_is_judged_as_the_model_does_at_every_bound(
    internals: Any, *, is_super: bool, protocol: int, version: int, l3: int
) -> None:
    frame, transport = frame_of(version, protocol, l3=l3, n_tags=1, extensions=[(0, 0)])
    kind = UDP_L4 if protocol == UDP else TCPV4 if version == 4 else TCPV6
    offset = 6 if protocol == UDP else 16
    vnet = Vnet(NEEDS_CSUM, kind if is_super else NONE, 0, 50, transport, offset)
    for case in near_every_bound(Case(vnet, frame, l3)):
        n_packets, _ = check(internals, case)
        assert n_packets == expected_packets(case.vnet, case.frame, l3), case.vnet


@given(extensions=st.lists(st.tuples(st.sampled_from([0, 43, 60, 44, 51]), st.integers(0, 3))))
def test_extension_headers_are_walked_as_the_model_does(
    internals: Any, extensions: list[tuple[int, int]]
) -> None:
    frame, transport = frame_of(6, UDP, extensions=extensions)
    vnet = Vnet(NEEDS_CSUM, UDP_L4, 0, 100, transport, 6)
    n_packets, _ = check(internals, Case(vnet, frame, 0))
    assert n_packets == expected_packets(vnet, frame, 0)
    known = all(kind in (0, 43, 60) for kind, _ in extensions)
    assert n_packets == (2 if known and len(extensions) <= 4 else -1)


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


@given(
    version=st.sampled_from([4, 6]),
    n_segments=st.integers(60, 68),
    tail=st.integers(0, 9),
    l3=st.sampled_from([0, ETHERNET]),
)
def test_a_udp_super_packet_has_64_segments_at_most_but_our_own_kernels(
    internals: Any, version: int, n_segments: int, tail: int, l3: int
) -> None:
    ffi, lib = internals
    frame, transport = frame_of(version, UDP, payload=n_segments * 10 - tail, l3=l3)
    case = Case(Vnet(NEEDS_CSUM, UDP_L4, 0, 10, transport, 6), frame, l3)
    n_packets, vnet = check(internals, case)
    assert n_packets == (n_segments if n_segments <= 64 else -1)
    assert lib.vnet_has_many_segments(vnet, len(frame)) == (n_segments > 64)
    own = ffi.new("struct vnet *", vars(case.vnet))
    assert lib.vnet_check_local(own, frame, len(frame), l3) == n_segments


def wire_bytes(case: Case, header: int) -> int:
    """Return what a super-packet becomes: its packets, and the most that stands around each."""
    around = 14 + 24 + 40 + 8 + 32 + 15 + 4  # Ethernet on the wire, IPv6, UDP, ours
    payloads = range(header, len(case.frame), case.vnet.gso_size)
    return sum(
        around + header + min(case.vnet.gso_size, len(case.frame) - start) for start in payloads
    )


@settings(max_examples=4 * settings().max_examples)
@given(case=sound_cases(TYPES))
def test_a_super_packet_amplifies_when_it_becomes_over_twice_its_bytes_or_has_extensions(
    internals: Any, case: Case
) -> None:
    _, lib = internals
    n_packets, vnet = check(internals, case)
    headers = walk(case.frame, case.l3)
    assert headers is not None
    is_extended = headers.version == 6 and headers.transport != headers.ip + 40
    is_grown = wire_bytes(case, vnet.hdr_len) > 2 * len(case.frame)
    assert lib.amplifies(vnet, n_packets, case.frame, len(case.frame)) == (is_grown or is_extended)


@given(
    frame=st.binary(min_size=2, max_size=200),
    start=st.integers(0, 210),
    offset=st.integers(0, 210),
    l3=st.sampled_from([0, ETHERNET]),
    has_sum=st.booleans(),
)
def test_a_checksum_is_completed_wherever_it_is_behind_ip_in_the_frame(
    internals: Any, frame: bytes, start: int, offset: int, l3: int, *, has_sum: bool
) -> None:
    ffi, lib = internals
    vnet = ffi.new("struct vnet *", vars(Vnet(int(has_sum), NONE, 0, 0, start, offset)))
    completed = ffi.new("uint8_t[]", list(frame))
    place = start + offset
    if not has_sum or place + 2 > len(frame) or start < l3 + 20:
        assert not lib.vnet_complete(vnet, completed, len(frame), l3)
        assert bytes(completed) == frame
        return
    assert lib.vnet_complete(vnet, completed, len(frame), l3)
    summed = frame[start:] + bytes(len(frame[start:]) % 2)
    words = sum(int.from_bytes(summed[i : i + 2]) for i in range(0, len(summed), 2))
    checksum = 0xFFFF - (words % 0xFFFF or 0xFFFF * (words > 0))
    assert bytes(completed) == frame[:place] + (checksum or 0xFFFF).to_bytes(2) + frame[place + 2 :]
    assert vnet.flags == 0


@given(raw=st.binary(min_size=12, max_size=12))
def test_a_header_is_written_as_it_was_read(internals: Any, raw: bytes) -> None:
    ffi, lib = internals
    vnet, written = lib.vnet_read(raw), ffi.new("uint8_t[12]")
    assert vnet.gso_size == int.from_bytes(raw[4:6], "little")
    assert vnet.csum_start == int.from_bytes(raw[6:8], "little")
    lib.vnet_write(ffi.new("struct vnet *", vnet), written)
    assert bytes(written) == raw[:10] + bytes(2)
