"""The codec: what is packed comes out as it was, and nothing else comes out at all."""

from __future__ import annotations

import struct
import time
import tracemalloc

import msgpack
import msgspec
import pytest

from fastun import codec


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    x: int
    name: bytes = b""


def test_what_is_packed_comes_out_as_it_was() -> None:
    packed = codec.pack(Point(2**63, b"\xff\x00"))
    assert codec.unpack(packed, Point, len(packed)) == Point(2**63, b"\xff\x00")
    assert msgpack.unpackb(packed) == {"x": 2**63, "name": b"\xff\x00"}


class Circle(msgspec.Struct, frozen=True, tag_field=codec.TAG, tag="circle"):
    radius: int


def test_a_tag_names_the_type() -> None:
    packed = codec.pack(Circle(3))
    assert codec.unpack_tagged(packed, {"circle": Circle}, len(packed)) == Circle(3)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"radius": 3},
        {"type": "square", "radius": 3},
        {"type": ["circle"], "radius": 3},
        {"type": "circle"},
        {"type": "circle", "radius": b""},
    ],
)
def test_what_is_not_of_a_tagged_type_is_refused(value: object) -> None:
    with pytest.raises(codec.CodecError):
        codec.unpack_tagged(msgpack.packb(value), {"circle": Circle}, 1000)
    with pytest.raises(codec.CodecError, match="at most 0"):
        codec.unpack_tagged(codec.pack(Circle(3)), {"circle": Circle}, 0)


def test_what_is_longer_than_the_limit_is_not_parsed() -> None:
    packed = codec.pack(Point(1, bytes(100)))
    with pytest.raises(codec.CodecError, match=f"{len(packed)} bytes, at most {len(packed) - 1}"):
        codec.unpack(packed, Point, len(packed) - 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91" * 5000,
        b"\xdd\xff\xff\xff\xff",  # a list of 2**32 - 1
        b"\xdf\xff\xff\xff\xff",  # a map of as many
        b"\xc6\xff\xff\xff\xff",  # as many bytes
        b"\xa1\xff",  # a text that is not UTF-8
        b"\x81\x90\xc0",  # a list as a key
        b"\xd6\xff\x00\x00\x00\x00",  # a time
        b"\xc7\x01\x05\x00",  # an extension
        msgpack.packb([]),
        msgpack.packb({}),
        msgpack.packb({"x": "1"}),
        msgpack.packb({"x": True}),
        msgpack.packb({"x": 1.5}),
        msgpack.packb({"x": 1, "y": 2}),
        msgpack.packb({1: 1}),
        msgpack.packb({"x": 1}) + b"\x00",
        msgpack.packb({"x": 1, "name": bytes(40)})[:-1],
    ],
)
def test_what_is_not_one_value_of_the_type_is_refused(data: bytes) -> None:
    with pytest.raises(codec.CodecError):
        codec.unpack(data, Point, 1 << 20)


def cost_s(data: bytes, bytes_max: int) -> float:
    before_s = time.process_time()
    with pytest.raises(codec.CodecError):
        codec.unpack(data, Point, bytes_max)
    return time.process_time() - before_s


@pytest.mark.parametrize("deep", [50, 500, 900])
def test_lists_within_lists_that_announce_millions_of_elements_cost_what_their_bytes_do(
    deep: int,
) -> None:
    """A parser that makes room for each of them takes a hundred times as long."""
    n_bytes = 4096
    announcing = (b"\xdc" + struct.pack(">H", n_bytes - 10)) * deep
    harmless = min(cost_s(bytes([0x91]) * n_bytes, n_bytes) for _ in range(5))
    hostile = min(cost_s(announcing.ljust(n_bytes, b"\xc0"), n_bytes) for _ in range(5))
    assert hostile < 20 * harmless + 1e-4


@pytest.mark.parametrize("element", [b"\x80", b"\x90", b"\xa2ab", b"\xd4\x01x", b"\xcd\x01\x02"])
def test_what_is_not_expected_takes_no_memory(element: bytes) -> None:
    """Else 8 MiB of empty maps become 600."""
    n = (8 << 20) // len(element)
    data = b"\xdd" + struct.pack(">I", n) + element * n
    tracemalloc.start()
    try:
        with pytest.raises(codec.CodecError):
            codec.unpack(data, Point, len(data))
        with pytest.raises(codec.CodecError):
            codec.unpack_tagged(data, {"circle": Circle}, len(data))
        with pytest.raises(codec.CodecError):
            codec.unpack_printable(b"\x81\xa4name" + data, Point, 2 * len(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(data) + (1 << 20)


def test_every_text_can_be_made_one_printable_line() -> None:
    packed = codec.pack({"a": ["\x1b[2J", {"\n": "\x07 b"}], "c": b"\x1b", "d": 5})
    assert codec.unpack_printable(packed, dict, 100) == {
        "a": [r"\x1b[2J", {r"\n": r"\x07 b"}],
        "c": b"\x1b",
        "d": 5,
    }
