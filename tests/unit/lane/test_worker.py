"""A worker process as the lane starts it; the gateway's end of its channel is the test's."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.host.sockets.maker import OWN
from fastun.lab.host import wait_until
from fastun.lane import channel
from fastun.lane.channel import Channel
from fastun.lane.messages import (
    AttachLink,
    Begin,
    Boot,
    DetachLink,
    LinkEnded,
    LinkFormat,
    Ready,
    RefusalChanged,
    ToGateway,
)
from fastun.lane.worker import Worker
from fastun.native import Mode, PeerTable, Ring, Stats, Wire
from fastun.native.loop import Event, EventKind
from tests.support.worker_program import worker_command

if TYPE_CHECKING:
    from collections.abc import Iterator

RING_BYTES = 1 << 20
FORMAT = LinkFormat(
    Wire.PLAIN, Mode.TUN, super_outbound=False, super_inbound=False, message_max=60000
)


class LinkReader:
    """The process, and the gateway's end of its channel."""

    def __init__(self, process: subprocess.Popen[bytes], ours: Channel, ring: Ring) -> None:
        self._pid, self._ours, self._ring = process.pid, ours, ring

    def send(self, message: AttachLink | Begin | DetachLink, fds: tuple[int, ...] = ()) -> None:
        self._ours.send(message, fds)
        self._ring.ring_doorbell("link-reader")

    def receive(self) -> ToGateway:
        received = self._ours.receive()
        assert received is not None
        assert isinstance(received[0], ToGateway)
        return received[0]

    def descriptors(self) -> set[int]:
        return {int(entry.name) for entry in Path(f"/proc/{self._pid}/fd").iterdir()}

    @contextlib.contextmanager
    def no_descriptor_left(self) -> Iterator[None]:
        """Let it open nothing while the context lasts."""
        opened = self.descriptors()
        next_free = min(set(range(len(opened) + 1)) - opened)
        soft, hard = resource.prlimit(self._pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self._pid, resource.RLIMIT_NOFILE, (next_free, hard))
        try:
            yield
        finally:
            resource.prlimit(self._pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def link_reader() -> Iterator[LinkReader]:
    with contextlib.ExitStack() as stack:
        ours, theirs = channel.of(OWN.channel())
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
        process = subprocess.Popen(
            worker_command("link-reader/0", theirs.fileno()),
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).parents[3],
        )
        stack.callback(process.wait)  # the last is called first
        stack.callback(process.kill)
        theirs.close()
        started = LinkReader(process, ours, ring)
        assert isinstance(started.receive(), Ready)
        started.send(Begin())
        yield started
        ours.close()
        ring.ring_doorbell("link-reader")
        assert process.wait(10) == 0


def test_a_link_whose_socket_does_not_come_ends_alone(link_reader: LinkReader) -> None:
    near, far = socket.socketpair()
    other, other_far = socket.socketpair()
    with near, far, other, other_far:
        before = link_reader.descriptors()
        link_reader.send(AttachLink(1, 1, FORMAT), (other.fileno(),))
        wait_until(lambda: link_reader.descriptors() > before, "the worker has it")
        with link_reader.no_descriptor_left():
            link_reader.send(AttachLink(2, 7, FORMAT), (near.fileno(),))
            ended = link_reader.receive()
        assert ended == LinkEnded(2, 7, "a worker has too many open files")
        other_far.close()  # the first is still carried
        other.close()
        gone = link_reader.receive()
        assert isinstance(gone, LinkEnded)
        assert (gone.slot, gone.link_id) == (1, 1)


class FullChannel:
    """One whose gateway is behind: what does not wait is not sent."""

    def __init__(self) -> None:
        self.sent: list[ToGateway] = []
        self._waits = False

    def set_blocking(self, waits: bool) -> None:
        self._waits = waits

    def send(self, message: ToGateway) -> None:
        if not self._waits:
            raise BlockingIOError
        self.sent.append(message)


def test_what_the_kernel_refuses_is_reported_to_a_gateway_that_is_behind() -> None:
    worker = Worker.__new__(Worker)  # without a loop
    worker._channel = sent_to = FullChannel()  # type: ignore[assignment]  # noqa: SLF001
    for kind in (EventKind.TOO_LONG, EventKind.REFUSAL):
        worker._report(Event(kind, 3, 0, 1, "Input/output error", b"", b""))  # noqa: SLF001
    assert sent_to.sent == [RefusalChanged(3, 1, "Input/output error")]
