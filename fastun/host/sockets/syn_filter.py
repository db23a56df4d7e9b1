"""A filter on a listening socket (socket(7), SO_ATTACH_FILTER) that drops SYNs by their source.

Linux 6.18 wants CAP_NET_ADMIN for it. A gateway that has given that up asks its host process, which
has the socket as well for the moment (pidfd_getfd(2)).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Final

from fastun.host.sockets import socket_program

#: How many sources a filter has at most: each SYN is compared with all of them.
SOURCES_MAX: Final = 128
#: A source: an IPv4 address, or the network part of an IPv6 address.
IPV4_SOURCE_BYTES, IPV6_SOURCE_BYTES = 4, 8

_PIDFD_GETFD: Final = 438  # asm-generic/unistd.h
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h

# linux/bpf_common.h, linux/filter.h
_LOAD_BYTE, _LOAD_WORD, _SHIFT_RIGHT, _JUMP, _JUMP_EQUAL, _RETURN = 0x30, 0x20, 0x74, 5, 0x15, 6
_NETWORK_HEADER = 0x100000000 - 0x100000  # SKF_NET_OFF
_DROP, _PASS = 0, 0xFFFFFFFF

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, k
_PASS_ALL: _Instruction = (_RETURN, 0, 0, _PASS)


def program(sources: Sequence[bytes]) -> list[_Instruction]:
    """Return what drops packets from ``sources``: 4 bytes of IPv4, or the first 8 of IPv6."""
    ipv4: list[_Instruction] = [(_LOAD_WORD, 0, 0, _NETWORK_HEADER + 12)]
    ipv6: list[_Instruction] = []
    for source in sources:
        if len(source) == IPV4_SOURCE_BYTES:
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
    code = b"".join(socket_program.INSTRUCTION.pack(*each) for each in program(sources))
    socket_program.attach(listener, socket.SOL_SOCKET, _SO_ATTACH_FILTER, code)


def detach(connection: socket.socket) -> None:
    """Remove the filter: an accepted socket inherits that of its listener."""
    with contextlib.suppress(OSError):  # ENOENT: it has none
        connection.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def attach_in(pid: int, descriptor: int, sources: Sequence[bytes]) -> bool:
    """Do `attach` to a listening socket of another process. Raises OSError.

    Returns whether it is one: nothing else is touched.
    """
    import ctypes  # noqa: PLC0415 (0.7 MiB, for a gateway that is attacked)

    process = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        taken = libc.syscall(_PIDFD_GETFD, process, descriptor, 0)
        if taken < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
    finally:
        os.close(process)
    with contextlib.closing(socket.socket(fileno=taken)) as listener:
        is_ip = listener.family in (socket.AF_INET, socket.AF_INET6)
        if not is_ip or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        attach(listener, sources)
    return True
