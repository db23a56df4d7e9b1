"""The entry of a worker process: ``python -I -m fastun.worker ROLE/LANE CHANNEL_FD PARENT_PID``.

Imports only what it needs, because a restart has to be over within a second. Python runs between
two runs of the C loop: it reads the control channel, reports, and goes back in.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

import setproctitle

from fastun import _native
from fastun._native import LoopEnd
from fastun.channel import (
    Boot,
    Channel,
    DeviceGone,
    LinkEnded,
    LinkFormat,
    Ready,
    SetLink,
    close_all,
)


class Worker:
    """One role's process: its loop, its channel and the link it carries."""

    def __init__(self, role: str, channel: Channel) -> None:
        """Wait for the boot message and prepare the loop."""
        boot, fds = _receive_boot(channel)
        stats_fd, ring_fd, self._device_fd = fds
        self._channel = channel
        self._link_id = 0
        self._link_fd = -1
        self._loop = _native.Loop(
            role,
            _native.Ring.attach(ring_fd, boot.ring_bytes),
            _native.Stats.attach(stats_fd),
            self._device_fd,
            channel.fileno(),
        )
        close_all([stats_fd, ring_fd])
        self._set_link(-1, boot.link_format)
        channel.set_blocking(False)
        channel.send(Ready())

    def run(self) -> None:
        """Work until the gateway closes the channel."""
        gateway_lives = True
        while gateway_lives:
            end = self._loop.run()
            if end is LoopEnd.DOORBELL:
                gateway_lives = self._read_channel()
            elif end is LoopEnd.DEVICE_GONE:
                self._channel.send(DeviceGone(self._loop.error()))
                gateway_lives = self._await_channel()
            else:
                self._end_link(end)

    def _end_link(self, end: LoopEnd) -> None:
        reason = {
            LoopEnd.LINK_CLOSED: "the peer closed the connection",
            LoopEnd.LINK_FAULT: "the peer broke the framing",
        }.get(end) or self._loop.error()
        self._channel.send(LinkEnded(self._link_id, reason))
        self._drop_link()

    def _await_channel(self) -> bool:
        self._channel.set_blocking(True)
        more = self._channel.receive() is not None
        self._channel.set_blocking(False)
        return more

    def _read_channel(self) -> bool:
        """Act on all waiting messages; False when the gateway closed the channel."""
        self._loop.take_bell()
        while True:
            try:
                received = self._channel.receive()
            except BlockingIOError:
                return True
            if received is None:
                return False
            message, fds = received
            if isinstance(message, SetLink):
                self._drop_link()
                self._link_id = message.link_id
                self._set_link(fds[0] if fds else -1, message.link_format)

    def _drop_link(self) -> None:
        if self._link_fd >= 0:
            self._set_link(-1, self._format)

    def _set_link(self, fd: int, link_format: LinkFormat) -> None:
        old_fd, self._link_fd, self._format = self._link_fd, fd, link_format
        self._loop.set_link(
            fd,
            wire=link_format.wire,
            mode=link_format.mode,
            super_outbound=link_format.super_outbound,
            super_inbound=link_format.super_inbound,
            message_max=link_format.message_max,
        )
        if old_fd >= 0:
            os.close(old_fd)


def _receive_boot(channel: Channel) -> tuple[Boot, list[int]]:
    received = channel.receive()
    if received is None or not isinstance(received[0], Boot):
        raise SystemExit(1)
    return received[0], received[1]


def main() -> None:
    """Run one worker until its gateway lets it go or dies."""
    name, channel_fd, parent_pid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    setproctitle.setproctitle(f"fastun: {name}")
    # A ^C in the terminal goes to the whole group; stopping is the gateway's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _native.die_with_parent(parent_pid)
        channel = Channel(socket.socket(fileno=channel_fd))
        Worker(name.partition("/")[0], channel).run()
    except (BrokenPipeError, ConnectionResetError, ProcessLookupError):
        pass  # the gateway is gone, and there is nobody to tell


if __name__ == "__main__":
    main()
