"""The control channel between gateway and worker: one message a datagram, with descriptors.

A ``SOCK_SEQPACKET`` pair. Each datagram is one msgpack map ``{"type": …, …}``, one of those in
messages.py; file descriptors ride along as SCM_RIGHTS. Either end closes the channel by dying,
which the other reads as end of file.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from fastun.errors import RuntimeFailure
from fastun.lane import packing
from fastun.lane.messages import MESSAGE_BYTES_MAX, Message

if TYPE_CHECKING:
    import _socket

_Result = TypeVar("_Result")

FDS_MAX = 64  # Boot has the most: of 16 lanes 53

#: What the template answers to a request (template.py): a worker's process ID, or a negative errno.
FORK_ANSWER: Final = struct.Struct("=i")

# What passes when the kernel has memory again.
_SHORTAGES: Final = frozenset({errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN})


class DescriptorsLost(RuntimeFailure):
    """A message came without all of its descriptors: this process may open no more (EMFILE)."""

    def __init__(self, message: Message) -> None:
        """Keep the message."""
        super().__init__("control channel: too many open files for what a message brings")
        self.message = message


class Channel:
    """One end of a control channel. Not thread-safe; owns its socket."""

    def __init__(self, end: socket.socket) -> None:
        """Take over ``end``, a SEQPACKET socket."""
        self._socket = end
        self._flags = 0  # of each call: a confined worker may not change the socket itself
        self._rest: Callable[[], None] | None = None

    def fileno(self) -> int:
        """Return the descriptor, for a selector or for passing on."""
        return self._socket.fileno()

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Send one message; the descriptors are duplicated to the receiver.

        Raises BrokenPipeError or ConnectionResetError when the other end is gone and
        BlockingIOError when it does not read (a full channel that does not block).
        """
        # Not by socket.send_fds, which ignores its flags.
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        packed = [packing.pack(message)]
        self._patiently(lambda: self._socket.sendmsg(packed, rights, self._flags))

    def receive(self) -> tuple[Message, list[int]] | None:
        """Return one message and its descriptors (the caller's to close), or None at the end.

        Raises BlockingIOError when there is none now, RuntimeFailure for an invalid message and
        DescriptorsLost for one whose descriptors did not all come.
        """
        data, fds, flags = self._patiently(lambda: receive(self._socket, self._flags))
        if not data:
            return None
        if flags & socket.MSG_TRUNC:
            close_all(fds)
            raise RuntimeFailure("control channel: a message was longer than the limit")
        try:
            message = packing.unpack(data)
        except RuntimeFailure:
            close_all(fds)
            raise
        if flags & socket.MSG_CTRUNC:
            close_all(fds)
            raise DescriptorsLost(message)
        return message, fds

    def set_blocking(self, blocking: bool) -> None:
        """Choose between waiting in receive and BlockingIOError."""
        self._flags = 0 if blocking else socket.MSG_DONTWAIT

    def bear_shortages(self, rest: Callable[[], None]) -> None:
        """Take a want of memory for a channel that is full or empty: wait, or BlockingIOError.

        Waiting calls ``rest`` between two tries. Without this it is an OSError.
        """
        self._rest = rest

    def _patiently(self, call: Callable[[], _Result]) -> _Result:
        while True:
            try:
                return call()
            except OSError as error:
                if self._rest is None or error.errno not in _SHORTAGES:
                    raise
                if self._flags & socket.MSG_DONTWAIT:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
                self._rest()

    def close(self) -> None:
        """Close this end."""
        close_for_good(self._socket)


def of(ends: tuple[socket.socket, socket.socket]) -> tuple[Channel, socket.socket]:
    """Return the gateway's end, not blocking, and the raw end for a worker to inherit."""
    ours, theirs = ends
    channel = Channel(ours)
    channel.set_blocking(False)
    return channel, theirs


def close_for_good(end: socket.socket) -> None:
    """Close a socket: what the kernel says of that changes nothing, it is closed (close(2))."""
    with contextlib.suppress(OSError):
        end.close()


def close_all(fds: list[int]) -> None:
    """Close received descriptors, as `close_for_good`."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def receive(end: _socket.socket, flags: int) -> tuple[bytes, list[int], int]:
    """Return one datagram, its descriptors and flags. Raises OSError.

    As socket.recv_fds, but with MSG_CMSG_CLOEXEC: no descriptor leaks into a spawned child.
    """
    fds = array.array("i")
    space = socket.CMSG_SPACE(FDS_MAX * fds.itemsize)
    flags |= socket.MSG_CMSG_CLOEXEC
    data, ancillary, flags, _ = end.recvmsg(MESSAGE_BYTES_MAX, space, flags)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds), flags
