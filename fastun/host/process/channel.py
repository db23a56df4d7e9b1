"""What carries requests, answers and notices between gateway and host process, with descriptors.

    number u32 | msgpack map {"type": ..., ...}           number 0: a notice, which has no answer

A ``SOCK_SEQPACKET`` pair: one message a datagram. A long one, as thousands of routes are, is in a
memfd, which is the first descriptor then, and its datagram has the number alone. Both ends are of
one fastun, so there are no versions. Either end closes it by dying.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from fastun import codec
from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import msgspec

#: Of a message: the queues of a device (native.LANES_MAX), and a memfd.
DESCRIPTORS_MAX: Final = 16 + 1
#: Of one message in its datagram; what is longer goes into a memfd.
DATAGRAM_BYTES_MAX: Final = 32 << 10
#: Of any: half a million networks, with room to spare.
MESSAGE_BYTES_MAX: Final = 16 << 20

NOTICE: Final = 0
NUMBER_MAX: Final = (1 << 32) - 1

_NUMBER: Final = struct.Struct("=I")

#: What fails for want of memory is tried again after so long: to send for a second, else for ever.
RETRY_S: Final = 0.05
_SEND_TRIES: Final = 20

_Result = TypeVar("_Result")


class Unasked(RuntimeFailure):
    """The other end has sent what is not a message, or not one that may come now."""


class Received(NamedTuple):
    """A message; its descriptors are the caller's to close."""

    number: int
    message: Any
    descriptors: list[int]
    n_bytes: int = 0


class HostChannel:
    """One end. One thread may receive while others send, one at a time; owns its socket."""

    def __init__(self, end: socket.socket, by_tag: Mapping[str, type[msgspec.Struct]]) -> None:
        """Take over ``end``; messages that come are of these types."""
        self._socket = end
        self._by_tag = by_tag

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def send(
        self,
        number: int,
        message: msgspec.Struct,
        descriptors: Sequence[int] = (),
        flags: int = 0,
    ) -> None:
        """Send one message; descriptors are duplicated to the other end.

        Raises OSError: BlockingIOError with MSG_DONTWAIT where the other end does not read.
        """
        content, header = codec.pack(message), _NUMBER.pack(number)
        if len(content) > MESSAGE_BYTES_MAX:
            raise RuntimeFailure(f"{len(content)} bytes are too many for the host process")
        with contextlib.ExitStack() as stack:
            if len(content) > DATAGRAM_BYTES_MAX:
                file = stack.enter_context(os.fdopen(os.memfd_create("message"), "wb"))
                file.write(content)
                file.flush()
                descriptors, content = (file.fileno(), *descriptors), b""
            rights = array.array("i", descriptors)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
            flags |= socket.MSG_NOSIGNAL
            _patiently(
                lambda: self._socket.sendmsg([header, content], ancillary, flags),
                flags,
                _SEND_TRIES,
            )

    def receive(self, flags: int = 0) -> Received | None:
        """Return one message, None at the end.

        Raises Unasked, and OSError: BlockingIOError with MSG_DONTWAIT where there is none.
        """
        data, descriptors, flags = _patiently(
            lambda: _receive(self._socket, flags), flags, float("inf")
        )
        try:
            if not data and not descriptors:
                return None
            number, content = _parted(data, flags)
            content = content or _content_of(descriptors)
            message = codec.unpack_tagged(content, self._by_tag, MESSAGE_BYTES_MAX)
        except (codec.CodecError, OSError, Unasked) as error:
            close_all(descriptors)
            raise Unasked(str(error)) from None
        return Received(number, message, descriptors, len(content))

    def shut(self) -> None:
        """End the conversation; who waits in `receive` returns. Any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def _patiently(call: Callable[[], _Result], flags: int, tries: float) -> _Result:
    """Call again while the kernel has no memory; once only where waiting is not wanted."""
    while True:
        try:
            return call()
        except OSError as error:
            tries -= 1
            waits = not flags & socket.MSG_DONTWAIT
            if not waits or not (is_shortage(error) or error.errno == errno.EAGAIN) or tries <= 0:
                raise
        time.sleep(RETRY_S)


def is_shortage(error: OSError) -> bool:
    """Return whether it passes when the kernel has memory again."""
    return error.errno in (errno.ENOMEM, errno.ENOBUFS)


def close_all(descriptors: list[int]) -> None:
    """Close received descriptors."""
    for each in descriptors:
        with contextlib.suppress(OSError):
            os.close(each)
    descriptors.clear()


def _parted(data: bytes, flags: int) -> tuple[int, bytes]:
    """Return the number of a datagram, and what follows it."""
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(data) < _NUMBER.size:
        raise Unasked("a message of the wrong length")
    (number,) = _NUMBER.unpack_from(data)
    return number, data[_NUMBER.size :]


def _content_of(descriptors: list[int]) -> bytes:
    """Return what is in the first descriptor, which is taken out of the list."""
    if not descriptors:
        raise Unasked("a message without content")
    with os.fdopen(descriptors.pop(0), "rb", buffering=0) as file:
        fcntl.fcntl(file, fcntl.F_GET_SEALS)  # OSError: a file of another kind, which may block
        # Read once, and no more than that: the other end may still write to it.
        n_bytes = os.fstat(file.fileno()).st_size
        if not 0 < n_bytes <= MESSAGE_BYTES_MAX:
            raise Unasked("a message of the wrong length")
        return os.pread(file.fileno(), n_bytes, 0)


def _receive(end: socket.socket, flags: int) -> tuple[bytes, list[int], int]:
    """As socket.recv_fds, but no descriptor leaks into a program that is started meanwhile."""
    received = array.array("i")
    space = socket.CMSG_SPACE(DESCRIPTORS_MAX * received.itemsize)
    flags |= socket.MSG_CMSG_CLOEXEC
    data, ancillary, flags, _ = end.recvmsg(_NUMBER.size + DATAGRAM_BYTES_MAX, space, flags)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received.frombytes(content[: len(content) - len(content) % received.itemsize])
    return data, list(received), flags
