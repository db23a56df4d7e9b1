"""Sources whose SYNs the kernel drops for us, for a moment.

Accepting and closing a connection costs 20 us. A host that only connects makes 15,000 connections a
second, which would still take a third of a core. A filter on the listening socket (socket(7),
SO_ATTACH_FILTER; classic BPF, no privilege needed) drops the SYNs of such a source before there is
a connection. It affects only sources that have completed connections, so a forged address cannot
block another host, and a dropped SYN is sent again after a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import Callable, Sequence

from fastun.host.socket_state import n_drops
from fastun.link.source_limits import IPV4_BYTES, SourceLimits

# The SYNs of a source that is refused more often are dropped by the kernel. Below that, refusing
# costs 0.4 % of a core at most, and other clients of the same source can try again at once.
REFUSALS_PER_SECOND = 200
REFUSALS_BURST = 200

TURNED_AWAY_S = 1.0

# Each SYN is compared with all of them; the oldest is let in again when there are more.
TURNED_AWAY_MAX = 128

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h

# linux/bpf_common.h, linux/filter.h
_LOAD_BYTE, _LOAD_WORD, _SHIFT_RIGHT, _JUMP, _JUMP_EQUAL, _RETURN = 0x30, 0x20, 0x74, 5, 0x15, 6
_NETWORK_HEADER = 0x100000000 - 0x100000  # SKF_NET_OFF
_DROP, _PASS = 0, 0xFFFFFFFF
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, k
_PASS_ALL: _Instruction = (_RETURN, 0, 0, _PASS)


def program(sources: Sequence[bytes]) -> list[_Instruction]:
    """Return what drops packets from ``sources``: 4 bytes of IPv4, or the first 8 of IPv6."""
    ipv4: list[_Instruction] = [(_LOAD_WORD, 0, 0, _NETWORK_HEADER + 12)]
    ipv6: list[_Instruction] = []
    for source in sources:
        if len(source) == IPV4_BYTES:
            ipv4 += [(_JUMP_EQUAL, 0, 1, int.from_bytes(source)), (_RETURN, 0, 0, _DROP)]
            continue
        ipv6 += [
            (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 8),
            (_JUMP_EQUAL, 0, 3, int.from_bytes(source[:4])),
            (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 12),
            (_JUMP_EQUAL, 0, 1, int.from_bytes(source[4:])),
            (_RETURN, 0, 0, _DROP),
        ]
    ipv4.append(_PASS_ALL)
    version: list[_Instruction] = [
        (_LOAD_BYTE, 0, 0, _NETWORK_HEADER),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_JUMP_EQUAL, 0, 1, 6),
        (_JUMP, 0, 0, len(ipv4)),
    ]
    return [*version, *ipv4, *ipv6, _PASS_ALL]


def attach(listener: socket.socket, sources: Sequence[bytes]) -> None:
    """Drop packets from ``sources`` on ``listener``; empty: drop none. Raises OSError."""
    if not sources:
        detach(listener)
        return
    instructions = program(sources)
    code = b"".join(_INSTRUCTION.pack(*each) for each in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    argument = _PROGRAM.pack(len(instructions), ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)


def detach(connection: socket.socket) -> None:
    """Remove the filter: an accepted socket inherits that of its listener."""
    with contextlib.suppress(OSError):  # ENOENT: it has none
        connection.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


class TurnedAway:
    """The sources whose SYNs are dropped now, on all listeners. Event loop only."""

    def __init__(
        self, listeners: Sequence[socket.socket], on_dropped: Callable[[int], None]
    ) -> None:
        """Begin with none. ``on_dropped`` is called with the number of newly dropped SYNs."""
        self._listeners = listeners
        self._on_dropped = on_dropped
        self._n_dropped = 0
        self._refusals = SourceLimits(REFUSALS_PER_SECOND, REFUSALS_BURST)
        self._until_s: dict[bytes, float] = {}  # the loop's time, the first to return first
        self._is_changed = False
        self._timer: asyncio.TimerHandle | None = None

    def refuse(self, source: bytes, now_s: float) -> None:
        """Record a refusal; after too many, ``apply`` makes the kernel drop the source's SYNs."""
        if source in self._until_s or self._refusals.take(source, now_s):
            return
        if len(self._until_s) >= TURNED_AWAY_MAX:
            del self._until_s[next(iter(self._until_s))]
        self._until_s[source] = now_s + TURNED_AWAY_S
        self._is_changed = True

    def apply(self) -> None:
        """Update the filters, if anything has changed."""
        if not self._is_changed:
            return
        self._is_changed = False
        self._count()
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # without memory for it we refuse by ourselves
                attach(listener, tuple(self._until_s))
        if self._until_s and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(next(iter(self._until_s.values())), self._let_in)

    def _count(self) -> None:
        n_dropped = sum(map(n_drops, self._listeners))
        self._on_dropped(n_dropped - self._n_dropped)
        self._n_dropped = n_dropped

    def _let_in(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time() + TURNED_AWAY_S / 10  # some at once
        self._until_s = {source: at_s for source, at_s in self._until_s.items() if at_s > now_s}
        self._is_changed = True
        self.apply()

    def close(self) -> None:
        """Forget all."""
        if self._timer is not None:
            self._timer.cancel()
