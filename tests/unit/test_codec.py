"""The codec: what is packed comes out as it was, and nothing else comes out at all."""

from __future__ import annotations

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
