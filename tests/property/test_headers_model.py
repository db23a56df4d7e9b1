"""ip_walk and ethernet_find_ip of csrc/packet/headers.h against a model in plain Python."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION)
TCP, UDP, ICMPV6 = 6, 17, 58
EXTENSIONS_MAX = 8
TAGS = (b"\x81\x00", b"\x88\xa8")


@dataclass(frozen=True)
class Headers:
    transport: int = 0
    protocol: int = 0
    n_extensions: int = 0
    is_fragment: bool = False
    is_later_fragment: bool = False
    is_authenticated: bool = False


# -- the model -------------------------------------------------------------------------------------


def model_walk(packet: bytes) -> Headers:
    """Return what the headers lead to; transport 0 when they are not whole."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        length = packet[0] % 16 * 4
        word = int.from_bytes(packet[6:8])
        if not 20 <= length <= len(packet):
            return Headers()
        place, has_more = word % 2**13, bool(word & 2**13)
        return Headers(length, packet[9], 0, has_more or place > 0, place > 0)
    if version == 6 and len(packet) >= 40:
        return model_extensions(packet[6], packet, 40, [])
    return Headers()


def model_extensions(kind: int, packet: bytes, at: int, kinds: list[int]) -> Headers:
    """Follow the chain from the header of type ``kind`` at ``at``; ``kinds`` were before it."""
    is_later = kinds[-1:] == [FRAGMENT] and int.from_bytes(packet[at - 6 : at - 4]) >= 8
    if is_later or kind not in EXTENSIONS:
        if at > len(packet):
            return Headers()
        return Headers(at, kind, len(kinds), FRAGMENT in kinds, is_later, AUTHENTICATION in kinds)
    if len(kinds) == EXTENSIONS_MAX or at + 8 > len(packet):
        return Headers()
    unit = {FRAGMENT: 0, AUTHENTICATION: 4}.get(kind, 8)
    return model_extensions(packet[at], packet, at + 8 + unit * packet[at + 1], [*kinds, kind])


def model_find_ip(frame: bytes) -> int:
    """Return where IP begins behind at most two VLAN tags; 0: it is not there."""
    if len(frame) < 14 + 20:
        return 0
    n_tags = 0
    while n_tags < 2 and frame[12 + 4 * n_tags :][:2] in TAGS:
        n_tags += 1
    at = 14 + 4 * n_tags
    announced = {b"\x08\x00": 4, b"\x86\xdd": 6}.get(frame[at - 2 : at])
    return at if announced == frame[at] >> 4 else 0


# -- what it is tried on ---------------------------------------------------------------------------


@st.composite
def ipv4_packets(draw: st.DrawFn) -> bytes:
    header = bytearray(draw(st.binary(min_size=20, max_size=20)))
    header[0] = 0x40 | draw(st.integers(0, 15))
    header[6:8] = draw(st.sampled_from([0, 0x4000, 0x2000, 0x8000, 1, 0x1FFF, 0x2001])).to_bytes(2)
    header[9] = draw(st.sampled_from([TCP, UDP, 1, 44]))
    return bytes(header) + draw(st.binary(max_size=80))


@st.composite
def ipv6_packets(draw: st.DrawFn) -> bytes:
    extension = st.tuples(st.sampled_from(EXTENSIONS), st.integers(0, 3), st.sampled_from([0, 8]))
    extensions = draw(st.lists(extension, max_size=EXTENSIONS_MAX + 2))
    kinds = [kind for kind, _, _ in extensions] + [draw(st.sampled_from([TCP, UDP, ICMPV6, 59]))]
    packet = (
        bytes([0x60]) + bytes(5) + bytes([kinds[0]]) + draw(st.binary(min_size=33, max_size=33))
    )
    for i, (kind, units, place) in enumerate(extensions):
        unit = {FRAGMENT: 0, AUTHENTICATION: 4}.get(kind, 8)
        begin = bytes([kinds[i + 1], units, 0, place if kind == FRAGMENT else 0, 0, 0, 0, 0])
        packet += begin + bytes(unit * units)
    return packet + draw(st.binary(max_size=30))


packets = st.one_of(ipv4_packets(), ipv6_packets())


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    tags = draw(st.lists(st.sampled_from([*TAGS, b"\x91\x00"]), max_size=3))
    kind = draw(st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06"]))
    return bytes(12) + b"".join(tag + b"\x00\x01" for tag in tags) + kind + draw(packets)


def walk(internals: Any, packet: bytes) -> Headers:
    ffi, lib = internals
    exact = ffi.new("uint8_t[]", packet)
    walked = lib.ip_walk(exact, len(packet))
    if walked.transport == 0:
        return Headers()
    return Headers(*(getattr(walked, name) for name in Headers.__dataclass_fields__))


# -- the claims ------------------------------------------------------------------------------------


@settings(max_examples=4 * settings().max_examples)
@given(packet=packets)
def test_headers_are_walked_as_the_model_does(internals: Any, packet: bytes) -> None:
    assert walk(internals, packet) == model_walk(packet)


@given(packet=packets, data=st.data())
def test_a_packet_that_is_cut_short_is_walked_as_the_model_does(
    internals: Any, packet: bytes, data: st.DataObject
) -> None:
    cut = packet[: data.draw(st.integers(0, len(packet)))]
    assert walk(internals, cut) == model_walk(cut)


@given(packet=st.binary(max_size=120))
@example(packet=b"")
@example(packet=b"\x45")
def test_garbage_is_walked_as_the_model_does(internals: Any, packet: bytes) -> None:
    headers = walk(internals, packet)
    assert headers == model_walk(packet)
    assert headers.transport <= len(packet)


@given(frame=frames(), data=st.data())
def test_ip_is_found_in_an_ethernet_frame_as_the_model_does(
    internals: Any, frame: bytes, data: st.DataObject
) -> None:
    _, lib = internals
    for whole in (frame, frame[: data.draw(st.integers(0, len(frame)))]):
        assert lib.ethernet_find_ip(whole, len(whole)) == model_find_ip(whole)


@given(packet=packets)
def test_single_fields_are_where_the_rfcs_say(internals: Any, packet: bytes) -> None:
    ffi, lib = internals
    exact = ffi.new("uint8_t[]", packet)
    is_ipv4 = packet[0] >> 4 == 4
    places = (12, 16) if is_ipv4 else (8, 24)
    assert (lib.ip_source(exact) - exact, lib.ip_destination(exact) - exact) == places
    length = packet[2:4] if is_ipv4 else packet[4:6]
    assert lib.ip_packet_length(exact) == int.from_bytes(length) + (0 if is_ipv4 else 40)


def test_the_model_knows_a_fragment_behind_options() -> None:
    options = bytes([FRAGMENT, 0]) + bytes(6)
    later = bytes([DESTINATION, 0, 0, 8]) + bytes(4)
    packet = bytes([0x60]) + bytes(5) + bytes([HOP_BY_HOP]) + bytes(33) + options + later
    assert astuple(model_walk(packet)) == (56, DESTINATION, 2, True, True, False)
