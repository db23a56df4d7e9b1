"""Frames before the lane takes over: bounded, exact, and not a byte of what follows."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fastun.link.hello import HelloError
from fastun.link.stream import framing

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 10


@contextmanager
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def received(sent: bytes, *, closes: bool = False) -> bytes:
    """What is read as one frame of at most MOST bytes."""
    with ends() as (ours, theirs):
        theirs.sendall(sent)
        if closes:
            theirs.close()
        return asyncio.run(asyncio.wait_for(framing.receive(ours, MOST), 5))


def test_a_frame_is_its_length_in_two_bytes_and_the_message() -> None:
    with ends() as (ours, theirs):
        asyncio.run(framing.send(ours, b"abc"))
        assert theirs.recv(100) == b"\x00\x03abc"


@pytest.mark.parametrize("length", [1, MOST])
def test_a_message_of_any_length_up_to_the_limit_is_read(length: int) -> None:
    assert received(bytes([0, length]) + b"x" * length) == b"x" * length


@pytest.mark.parametrize("prefix", [b"\x00\x00", b"\x00\x0b", b"\xff\xff"])
def test_a_length_of_0_or_above_the_limit_is_refused_before_its_bytes_come(prefix: bytes) -> None:
    with pytest.raises(HelloError, match="does not speak this wire"):
        received(prefix)


@pytest.mark.parametrize("sent", [b"", b"\x00", b"\x00\x03", b"\x00\x03ab"])
def test_a_stream_that_ends_inside_a_frame_is_refused(sent: bytes) -> None:
    with pytest.raises(HelloError, match="closed the connection"):
        received(sent, closes=True)


def test_what_follows_the_frame_is_left_in_the_socket() -> None:
    with ends() as (ours, theirs):
        theirs.sendall(b"\x00\x03abcdef")
        assert asyncio.run(framing.receive(ours, MOST)) == b"abc"
        assert ours.recv(100) == b"def"


def test_a_frame_may_come_byte_by_byte() -> None:
    async def drip() -> bytes:
        with ends() as (ours, theirs):
            reading = asyncio.create_task(framing.receive(ours, MOST))
            for byte in b"\x00\x03abc":
                theirs.send(bytes([byte]))
                await asyncio.sleep(0.001)
            return await asyncio.wait_for(reading, 5)

    assert asyncio.run(drip()) == b"abc"
