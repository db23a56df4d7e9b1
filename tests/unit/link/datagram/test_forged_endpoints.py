"""What a worker in an attacker's hands writes as a peer's endpoint, where the gateway reads it."""

from __future__ import annotations

import mmap
import struct
from ipaddress import ip_address

import pytest

from fastun.native import PEER_SLOTS, SOCKETS_MAX, PeerTable, UdpAddress

# csrc/shared/peer_table.h: the link-reader's part is the last one. In each of its slots there is
# endpoint_version on the second line, and behind it the endpoint.
SLOT_BYTES, VERSION_OFFSET = 128, 64


def written(packed: bytes) -> UdpAddress | None:
    table = PeerTable.create()
    try:
        with mmap.mmap(table.fd, 0) as memory:
            slot_0 = len(memory) - PEER_SLOTS * SLOT_BYTES
            struct.pack_into(f"=Q{len(packed)}s", memory, slot_0 + VERSION_OFFSET, 2, packed)
        return table.endpoint(0)
    finally:
        table.close()


def test_an_endpoint_is_read_as_it_was_written() -> None:
    address = UdpAddress(ip_address("192.0.2.1"), 51820, SOCKETS_MAX - 1)
    assert written(address.pack()) == address


@pytest.mark.parametrize("index", [SOCKETS_MAX, 999, 2**32 - 1])
def test_an_endpoint_of_a_socket_that_cannot_be_is_none(index: int) -> None:
    assert written(UdpAddress(ip_address("192.0.2.1"), 51820, index).pack()) is None


@pytest.mark.parametrize("family", [0, 3, 0xFFFF])
def test_an_endpoint_of_a_family_that_cannot_be_is_none(family: int) -> None:
    packed = bytearray(UdpAddress(ip_address("192.0.2.1"), 51820).pack())
    struct.pack_into("=H", packed, 4, family)
    assert written(bytes(packed)) is None


@pytest.mark.parametrize("place", [12, 23, 36, 47])
def test_an_ipv4_endpoint_with_more_than_an_ipv4_address_is_none(place: int) -> None:
    packed = bytearray(UdpAddress(ip_address("192.0.2.1"), 51820).pack())
    packed[place] = 1
    assert written(bytes(packed)) is None


@pytest.mark.parametrize("length", [0, 5, 47, 49])
def test_an_address_that_is_too_short_or_long_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"b'"):
        UdpAddress.unpack(bytes(length))
