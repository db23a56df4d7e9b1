"""A worker's Python side, in a thread of this process: the gateway's end is the test's."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from fastun import channel
from fastun._native import Mode, PeerTable, Ring, Stats, Wire
from fastun.channel import (
    AttachLink,
    Boot,
    Channel,
    DetachLink,
    LinkEnded,
    LinkFormat,
    Ready,
    ToGateway,
)
from fastun.lab.host import wait_until
from fastun.worker import Worker
from tests.unit.descriptors import no_descriptor_left

if TYPE_CHECKING:
    from collections.abc import Iterator

RING_BYTES = 1 << 20
FORMAT = LinkFormat(
    Wire.PLAIN, Mode.TUN, super_outbound=False, super_inbound=False, message_max=60000
)


class Gateway:
    """The gateway's end of a link-reader's channel."""

    def __init__(self, ours: Channel, ring: Ring) -> None:
        self._ours, self._ring = ours, ring

    def send(self, message: AttachLink | DetachLink, fds: tuple[int, ...] = ()) -> None:
        self._ours.send(message, fds)
        self._ring.ring_doorbell("link-reader")

    def receive(self) -> ToGateway:
        received = self._ours.receive()
        assert received is not None
        assert isinstance(received[0], ToGateway)
        return received[0]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with contextlib.ExitStack() as stack:
        ours, theirs = channel.pair()
        ours.set_blocking(True)
        ring, stats, peers = Ring.create(RING_BYTES), Stats.create(), PeerTable.create()
        for memory in (ring, stats, peers):
            stack.callback(memory.close)
        wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        stack.callback(os.close, wake_fd)
        device = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        boot = Boot(
            ring_bytes=RING_BYTES,
            wire=Wire.PLAIN,
            mode=Mode.TUN,
            holds=False,
            coalesce=0,
            mss_mtu=0,
        )
        ours.send(boot, (stats.fd, ring.fd, peers.fd, device.fileno(), wake_fd))
        worker = Worker("link-reader", Channel(theirs))
        thread = threading.Thread(target=worker.run)
        thread.start()
        end = Gateway(ours, ring)
        assert end.receive() == Ready()
        yield end
        ours.close()
        ring.ring_doorbell("link-reader")
        thread.join(10)
        assert not thread.is_alive()


def n_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (their number is all that is wanted)


def test_a_link_whose_socket_does_not_come_ends_alone(gateway: Gateway) -> None:
    near, far = socket.socketpair()
    other, other_far = socket.socketpair()
    with near, far, other, other_far:
        n_before = n_descriptors()
        gateway.send(AttachLink(1, 1, FORMAT), (other.fileno(),))
        wait_until(lambda: n_descriptors() > n_before, "the worker has it")
        with no_descriptor_left():
            gateway.send(AttachLink(2, 7, FORMAT), (near.fileno(),))
            ended = gateway.receive()
        assert ended == LinkEnded(2, 7, "a worker has too many open files")
        other_far.close()  # the first is still carried
        other.close()
        gone = gateway.receive()
        assert isinstance(gone, LinkEnded)
        assert (gone.slot, gone.link_id) == (1, 1)
