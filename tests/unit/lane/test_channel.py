"""The control channel: what is sent comes as it went, and nothing else comes at all."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import msgpack
import pytest

from fastun.errors import RuntimeFailure
from fastun.host.sockets.maker import OWN
from fastun.lane import channel
from fastun.lane.channel import FDS_MAX, Channel, DescriptorsLost
from fastun.lane.messages import (
    MESSAGE_BYTES_MAX,
    AddReceivingKey,
    AllowIps,
    AttachLink,
    Boot,
    ControlCame,
    DetachLink,
    LinkFormat,
    Message,
    Ready,
    SendMessage,
    SetSendingKey,
    StreamHandshakeCame,
    UdpHandshakeCame,
)
from fastun.native import Confined, CounterSource, KeyName
from tests.support.descriptors import no_descriptor_left, open_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator


READY = Ready(Confined(65000, 7, has_filter=False, lacks=("seccomp (not here)",)))


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = channel.of(OWN.channel())
    with theirs:
        yield ours, theirs
    ours.close()


@pytest.mark.parametrize(
    "message",
    [
        Boot(ring_bytes=1 << 22, wire=2, mode=0, holds=True, coalesce=2, mss_mtu=0),
        AttachLink(7, 3, LinkFormat(2, 0, super_outbound=True, super_inbound=False, message_max=9)),
        AllowIps(1023, ((b"\x0a\x09\x00\x02", 32), (bytes(16), 0))),
        SetSendingKey(
            0, KeyName(8191, 2**64 - 1), 1, 2**32 - 1, CounterSource(3, 2**64 - 1), 2**64 - 1
        ),
        AddReceivingKey(0, KeyName(0, 1), (0, 1), 5, 1, 2**63),
        SendMessage(3, os.urandom(148)),
        UdpHandshakeCame(os.urandom(48), os.urandom(148)),
        ControlCame(3, 7, os.urandom(4096)),
        StreamHandshakeCame(3, 2**32 - 1, os.urandom(148)),
        READY,
    ],
)
def test_a_message_comes_as_it_went(ends: tuple[Channel, socket.socket], message: Message) -> None:
    ours, theirs = ends
    ours.send(message)
    assert Channel(theirs).receive() == (message, [])


def test_descriptors_come_along_and_are_not_inherited(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    reading, writing = os.pipe()
    ours.send(READY, (writing,))
    os.close(writing)
    received = Channel(theirs).receive()
    assert received is not None
    (descriptor,) = received[1]
    assert not os.get_inheritable(descriptor)
    os.write(descriptor, b"x")
    assert os.read(reading, 10) == b"x"
    os.close(descriptor)
    os.close(reading)


def test_the_end_is_none_and_nothing_yet_is_blocking_io_error(
    ends: tuple[Channel, socket.socket],
) -> None:
    ours, theirs = ends
    with pytest.raises(BlockingIOError):
        ours.receive()
    theirs.close()
    assert ours.receive() is None


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x91" * 2000,
        msgpack.packb([]),
        msgpack.packb({"slot": 1}),
        msgpack.packb({"type": "reboot"}),
        msgpack.packb({"type": "detach-link"}),
        msgpack.packb({"type": "detach-link", "slot": "1"}),
        msgpack.packb({"type": "detach-link", "slot": 1, "colour": "blue"}),
        msgpack.packb({"type": "begin"}) + b"\x00",
    ],
)
def test_what_is_not_a_message_is_refused_and_its_descriptors_are_closed(
    ends: tuple[Channel, socket.socket], data: bytes
) -> None:
    ours, theirs = ends
    before = open_descriptors()
    socket.send_fds(theirs, [data], [0])
    with pytest.raises(RuntimeFailure, match="control channel"):
        ours.receive()
    assert open_descriptors() == before


def longest_message() -> bytes:
    empty: bytes = msgpack.packb({"type": "send-message", "slot": 1, "message": bytes(300)})
    length = 300 + MESSAGE_BYTES_MAX - len(empty)
    longest: bytes = msgpack.packb({"type": "send-message", "slot": 1, "message": bytes(length)})
    assert len(longest) == MESSAGE_BYTES_MAX
    return longest


def test_a_message_may_be_as_long_as_the_limit(ends: tuple[Channel, socket.socket]) -> None:
    ours, theirs = ends
    theirs.send(longest_message())
    assert ours.receive() is not None


def test_a_message_over_the_limit_is_refused_and_its_descriptors_are_closed(
    ends: tuple[Channel, socket.socket],
) -> None:
    ours, theirs = ends
    before = open_descriptors()
    # Cut, it would be a message by itself.
    socket.send_fds(theirs, [longest_message() + b"\x00"], [0])
    with pytest.raises(RuntimeFailure, match="longer than the limit"):
        ours.receive()
    assert open_descriptors() == before


def test_more_descriptors_than_a_message_has_are_refused_and_closed(
    ends: tuple[Channel, socket.socket],
) -> None:
    ours, theirs = ends
    before = open_descriptors()
    socket.send_fds(theirs, [msgpack.packb({"type": "begin"})], [0] * (FDS_MAX + 4))
    with pytest.raises(DescriptorsLost):
        ours.receive()
    assert open_descriptors() == before


def test_of_a_message_for_whose_descriptors_there_is_no_room_the_rest_comes(
    ends: tuple[Channel, socket.socket],
) -> None:
    ours, theirs = ends
    before = open_descriptors()
    Channel(theirs).send(DetachLink(7), (0, 0))
    with no_descriptor_left(), pytest.raises(DescriptorsLost) as lost:
        ours.receive()
    assert lost.value.message == DetachLink(7)
    assert open_descriptors() == before
    with pytest.raises(BlockingIOError):
        ours.receive()
