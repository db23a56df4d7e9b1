"""Several UDP sockets of one port: which of them gets a datagram, by the kernel's own choice."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from fastun.host.sockets import binding, steering
from fastun.host.sockets.address import EndpointAddress
from fastun.host.sockets.maker import OWN

if TYPE_CHECKING:
    from collections.abc import Iterator

N_SOCKETS = 3


@pytest.fixture(params=["0.0.0.0", "::", "127.0.0.1", "::1"])  # noqa: S104 (what a server listens on)
def group(request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    first = OWN.datagrams(EndpointAddress(ip_address(request.param), 0, 0))
    sockets = [first, *steering.beside(first, N_SOCKETS, OWN)]
    yield sockets
    for each in sockets:
        each.close()


def taker(group: list[socket.socket], datagram: bytes) -> int:
    """Which of them has got it."""
    address = EndpointAddress.of(group[0])
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(address.host), str(address.host))  # noqa: S104 (as above)
    with socket.socket(group[0].family, socket.SOCK_DGRAM) as sender:
        sender.sendto(datagram, (host, address.port))
    for i, each in enumerate(group):
        with contextlib.suppress(BlockingIOError):
            assert each.recv(2000) == datagram
            return i
    raise AssertionError("it went nowhere")


def message(kind: int, index: int) -> bytes:
    return struct.pack("<II", kind, index) + bytes(24)


@pytest.mark.parametrize("kind", [4, 5])
def test_data_goes_by_the_low_byte_of_the_index(group: list[socket.socket], kind: int) -> None:
    for index in (0, 1, 2, 3, 0xFF, 0x1234_5601, 0xFFFF_FFFF, 0x0100_0000):
        assert taker(group, message(kind, index)) == (index & 0xFF) % N_SOCKETS


def test_handshakes_go_to_the_first_whatever_index_they_name(group: list[socket.socket]) -> None:
    for kind in (1, 2, 3):
        for index in range(N_SOCKETS):
            assert taker(group, message(kind, index)) == 0


@pytest.mark.parametrize("datagram", [b"", b"\x04", b"\x04\0\0\0", b"\xff" * 40, message(0, 2)])
def test_anything_else_goes_to_some_socket(group: list[socket.socket], datagram: bytes) -> None:
    assert taker(group, datagram) in range(N_SOCKETS)


def test_another_program_of_ours_cannot_bind_the_same(group: list[socket.socket]) -> None:
    with pytest.raises(OSError, match="in use") as refused:
        OWN.datagrams(EndpointAddress.of(group[0]))
    assert refused.value.errno == errno.EADDRINUSE


def test_they_are_steered_also_after_one_was_bound_beside_them(group: list[socket.socket]) -> None:
    with binding.overlapping([group[0]]):
        pass
    assert taker(group, message(4, 2)) == 2


def test_where_one_cannot_be_bound_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    first = OWN.datagrams(EndpointAddress(ip_address("127.0.0.1"), 0, 0))
    made: list[socket.socket] = []

    def refuse(_: socket.socket, __: int) -> None:
        raise OSError(errno.EPERM, "no")

    class Maker:
        def datagrams(self, at: EndpointAddress, *, is_beside: bool = False) -> socket.socket:
            made.append(OWN.datagrams(at, is_beside=is_beside))
            return made[-1]

    monkeypatch.setattr(steering, "attach", refuse)
    with pytest.raises(PermissionError):
        steering.beside(first, N_SOCKETS, Maker())  # type: ignore[arg-type]
    assert [each.fileno() for each in made] == [-1, -1]
    first.close()
