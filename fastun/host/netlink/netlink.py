"""Route netlink in bulk: dumps that the kernel filters, and many changes in one message.

pyroute2 takes some 100 us for each route that it packs or reads; a peer may have 100,000. The
kernel works through a message while it is being sent, so every answer is there when send returns.
Source: netlink(7), linux/netlink.h, net/netlink/af_netlink.c (netlink_rcv_skb, netlink_ack).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from fastun.host.netlink.rtnetlink import attributes_of, messages_of, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REQUEST, ACK = 0x1, 0x4
CREATE_NEW: Final = 0x600  # NLM_F_CREATE | NLM_F_EXCL
_DUMP, _DUMP_INTERRUPTED = 0x300, 0x10

_ERROR, _DONE = 2, 3
_SOL_NETLINK: Final = 270
_CAP_ACK, _EXT_ACK, _STRICT_CHECK = 10, 11, 12
_ERROR_MESSAGE: Final = 1  # NLMSGERR_ATTR_MSG

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ERROR_HEADER: Final = struct.Struct("=i")  # -errno; the header of the request follows

# An answer takes a KiB of the socket's buffer, of which the kernel gives 208 by default.
_BATCH: Final = 128
_READ_BYTES: Final = 1 << 18
# A dump is interrupted by changes of what it reads; the last attempt has to do.
_DUMP_ATTEMPTS: Final = 4


class Message(NamedTuple):
    """A change: its type (RTM_...), its flags beyond those of every request, and its body."""

    kind: int
    flags: int
    body: bytes


class Fault(NamedTuple):
    """Why the kernel refused a change: errno, and the kernel's own words or ''."""

    code: int
    words: str

    def __str__(self) -> str:
        """Say so."""
        reason = os.strerror(self.code)
        return f"the kernel refuses it: {reason}" + (f" ({self.words})" if self.words else "")


class Netlink:
    """One socket. One thread at a time; use as a context manager."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        """Open it in this thread's network namespace. Raises OSError."""
        self._sequence = 0
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
            with contextlib.suppress(OSError):  # an older kernel answers more, and says less
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))

    def __enter__(self) -> Self:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:  # noqa: D105
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return the bodies of all that the kernel has of a kind; older kernels filter nothing.

        Raises OSError.
        """
        for _ in range(_DUMP_ATTEMPTS):
            found, is_whole = self._dump(kind, body)
            if is_whole:
                break
        return found

    def change(self, messages: Sequence[Message]) -> dict[int, Fault]:
        """Make all changes; return what was refused, by its place in ``messages``. OSError."""
        refused: dict[int, Fault] = {}
        for start in range(0, len(messages), _BATCH):
            self._change(messages[start : start + _BATCH], start, refused)
        return refused

    def _change(self, batch: Sequence[Message], start: int, refused: dict[int, Fault]) -> None:
        first = self._sequence + 1
        self._sequence += len(batch)
        # Faults are answered anyway; one answer to the last says that all have been worked through.
        packed = [
            self._packed(kind, flags | (ACK if place == len(batch) - 1 else 0), body, first + place)
            for place, (kind, flags, body) in enumerate(batch)
        ]
        self._socket.send(b"".join(packed))
        is_over = False
        with contextlib.suppress(BlockingIOError):
            while True:
                answer = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
                for sequence, fault in _answers(answer):
                    if fault.code:
                        refused[start + sequence - first] = fault
                    is_over = is_over or sequence == self._sequence
        if not is_over:
            raise OSError(errno.EIO, "netlink lost answers")

    def _dump(self, kind: int, body: bytes) -> tuple[list[bytes], bool]:
        self._sequence += 1
        self._socket.send(self._packed(kind, _DUMP, body, self._sequence))
        found: list[bytes] = []
        is_whole = True
        while True:
            answer = memoryview(self._socket.recv(_READ_BYTES))
            for kind_of, flags, sequence, content in messages_of(answer):
                if sequence != self._sequence:
                    continue
                is_whole = is_whole and not flags & _DUMP_INTERRUPTED
                if kind_of in (_ERROR, _DONE):
                    code = -_ERROR_HEADER.unpack_from(content)[0] if content else 0
                    if code:
                        raise OSError(code, os.strerror(code))
                    return found, is_whole
                found.append(bytes(content))

    @staticmethod
    def _packed(kind: int, flags: int, body: bytes, sequence: int) -> bytes:
        length = _HEADER.size + len(body)
        return _HEADER.pack(length, kind, REQUEST | flags, sequence, 0) + body + bytes(-length % 4)


def _answers(answer: bytes) -> Iterator[tuple[int, Fault]]:
    """Yield what is acknowledged, by its sequence number; errno 0 is success."""
    for kind, _, sequence, body in messages_of(answer):
        if kind == _ERROR:
            code = -number(body, signed=True)
            words = body[_ERROR_HEADER.size + _HEADER.size :]
            text = dict(attributes_of(words)).get(_ERROR_MESSAGE, b"") if code else b""
            yield sequence, Fault(code, text.rstrip(b"\0").decode(errors="replace"))
