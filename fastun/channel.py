"""The control channel between gateway and worker: one message a datagram, with descriptors.

A ``SOCK_SEQPACKET`` pair. Each datagram is one msgpack map ``{"type": …, …}``, validated into one
of the structs below; file descriptors ride along as SCM_RIGHTS. Either end closes the channel by
dying, which the other reads as end of file.
"""

from __future__ import annotations

import array
import os
import socket
from typing import Any

import msgpack
import msgspec

from fastun.errors import RuntimeFailure

# A control message is a handful of small fields; SEQPACKET truncates what is longer, and a
# truncated message is an error.
MESSAGE_BYTES_MAX = 4096
FDS_MAX = 8


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of all control messages."""


class LinkFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which messages a link may carry: ``struct link_format`` of csrc/message.h."""

    wire: int
    mode: int
    super_outbound: bool
    super_inbound: bool
    message_max: int


class Boot(Message, frozen=True, tag="boot"):
    """Gateway to worker, first: descriptors are [statistics, ring, device]."""

    ring_bytes: int
    link_format: LinkFormat


class SetLink(Message, frozen=True, tag="set-link"):
    """Gateway to worker: carry this link from now on. Descriptors: [socket], or [] for none.

    The tun-reader gets only the format.
    """

    link_id: int
    link_format: LinkFormat


class Ready(Message, frozen=True, tag="ready"):
    """Worker to gateway: booted, the loop begins."""


class LinkEnded(Message, frozen=True, tag="link-ended"):
    """Worker to gateway: the link is over. ``reason`` is for the log."""

    link_id: int
    reason: str


class DeviceGone(Message, frozen=True, tag="device-gone"):
    """Worker to gateway: the interface was deleted under us."""

    reason: str


AnyMessage = Boot | SetLink | Ready | LinkEnded | DeviceGone


class Channel:
    """One end of a control channel. Not thread-safe; owns its socket."""

    def __init__(self, end: socket.socket) -> None:
        """Take over ``end``, a SEQPACKET socket."""
        self._socket = end

    def fileno(self) -> int:
        """Return the descriptor, for a selector or for passing on."""
        return self._socket.fileno()

    def send(self, message: AnyMessage, fds: tuple[int, ...] = ()) -> None:
        """Send one message; the descriptors are duplicated to the receiver.

        Raises BrokenPipeError or ConnectionResetError when the other end is gone and
        BlockingIOError when it does not read (a full channel on a non-blocking socket).
        """
        data: bytes = msgpack.packb(msgspec.to_builtins(message))
        socket.send_fds(self._socket, [data], list(fds))

    def receive(self) -> tuple[AnyMessage, list[int]] | None:
        """Return one message and its descriptors (the caller's to close), or None at the end.

        Raises BlockingIOError when there is none now, RuntimeFailure for an invalid message.
        """
        data, fds, flags = _receive(self._socket)
        if not data:
            return None
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise RuntimeFailure("control channel: a message was longer than the limit")
            return msgspec.convert(_unpack(data), AnyMessage), fds
        except (msgspec.ValidationError, ValueError, msgpack.UnpackException) as error:
            close_all(fds)
            raise RuntimeFailure(f"control channel: {error}") from error

    def set_blocking(self, blocking: bool) -> None:
        """Choose between waiting in receive and BlockingIOError."""
        self._socket.setblocking(blocking)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def pair() -> tuple[Channel, socket.socket]:
    """Return the gateway's end, not blocking, and the raw end for a worker to inherit."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return Channel(ours), theirs


def close_all(fds: list[int]) -> None:
    """Close received descriptors."""
    for fd in fds:
        os.close(fd)


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(data)


def _receive(end: socket.socket) -> tuple[bytes, list[int], int]:
    """As socket.recv_fds, but with MSG_CMSG_CLOEXEC: no descriptor leaks into a spawned child."""
    fds = array.array("i")
    space = socket.CMSG_SPACE(FDS_MAX * fds.itemsize)
    data, ancillary, flags, _ = end.recvmsg(MESSAGE_BYTES_MAX, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds), flags
