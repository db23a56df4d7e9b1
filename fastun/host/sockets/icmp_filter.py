"""What the kernel lets through to a raw socket: ICMP of some kinds about datagrams from our ports.

    hints         "fragmentation needed", "packet too big" (fastun/link/datagram/hints.py)
    unreachable   "destination unreachable" (unreachable.py there)

Source: raw(7), bpf(4) in linux/filter.h.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final, Literal

from fastun.host.sockets import socket_program
from fastun.host.sockets.socket_program import INSTRUCTION

Kind = Literal["hints", "unreachable"]

_SO_ATTACH_FILTER, _SO_LOCK_FILTER = 26, 44  # asm-generic/socket.h
_UDP = 17
_UNREACHABLE, _FRAGMENTATION_NEEDED, _PACKET_TOO_BIG = 3, 4, 2
_UNREACHABLE_IPV6 = 1
_ICMP_BYTES = 8
_IPV4_BYTES, _IPV6_BYTES = 20, 40

#: A jump of the program reaches so far.
PORTS_MAX: Final = 128

# Classic BPF: load a byte or 16 bits at X plus a place, X = 4 * (low nibble of a byte), compare.
_LOAD_BYTE, _LOAD_HALF, _LOAD_HEADER, _EQUAL, _RETURN = 0x50, 0x48, 0xB1, 0x15, 0x06
_X_IMMEDIATE = 0x01


def filter_ipv4(ports: list[int]) -> bytes:
    """Return the program for a raw socket of IPv4, which is given the IP header as well."""
    quote = _ICMP_BYTES
    checks = [
        (_LOAD_BYTE, 0, _UNREACHABLE),
        (_LOAD_BYTE, 1, _FRAGMENTATION_NEEDED),
        (_LOAD_BYTE, quote, 0x45),
        (_LOAD_BYTE, quote + 9, _UDP),
    ]
    return _program((_LOAD_HEADER, 0), checks, quote + _IPV4_BYTES, ports)


def unreachable_filter_ipv4(ports: list[int]) -> bytes:
    """Return the program that passes "destination unreachable" of any code."""
    quote = _ICMP_BYTES
    checks = [
        (_LOAD_BYTE, 0, _UNREACHABLE),
        (_LOAD_BYTE, quote, 0x45),
        (_LOAD_BYTE, quote + 9, _UDP),
    ]
    return _program((_LOAD_HEADER, 0), checks, quote + _IPV4_BYTES, ports)


def unreachable_filter_ipv6(ports: list[int]) -> bytes:
    """As above, of ICMPv6."""
    checks = [(_LOAD_BYTE, 0, _UNREACHABLE_IPV6), (_LOAD_BYTE, _ICMP_BYTES + 6, _UDP)]
    return _program((_X_IMMEDIATE, 0), checks, _ICMP_BYTES + _IPV6_BYTES, ports)


def filter_ipv6(ports: list[int]) -> bytes:
    """Return the program for a raw socket of ICMPv6, which begins with the message."""
    quote = _ICMP_BYTES
    checks = [(_LOAD_BYTE, 0, _PACKET_TOO_BIG), (_LOAD_BYTE, quote + 6, _UDP)]
    return _program((_X_IMMEDIATE, 0), checks, quote + _IPV6_BYTES, ports)


def _program(
    first: tuple[int, int], checks: list[tuple[int, int, int]], port_at: int, ports: list[int]
) -> bytes:
    """Accept what meets all checks and has one of the ports; a load behind the end refuses."""
    n_left = 2 * len(checks) + 1 + len(ports)  # instructions before the refusal, the first aside
    program = [INSTRUCTION.pack(first[0], 0, 0, first[1])]
    for load, place, value in checks:
        n_left -= 2
        program.append(INSTRUCTION.pack(load, 0, 0, place))
        program.append(INSTRUCTION.pack(_EQUAL, 0, n_left, value))
    program.append(INSTRUCTION.pack(_LOAD_HALF, 0, 0, port_at))
    for i, port in enumerate(ports):
        program.append(INSTRUCTION.pack(_EQUAL, len(ports) - i, 0, port))
    program.append(INSTRUCTION.pack(_RETURN, 0, 0, 0))
    program.append(INSTRUCTION.pack(_RETURN, 0, 0, 0xFFFF))
    return b"".join(program)


def attach_filter(to: socket.socket, program: bytes) -> None:
    """Let the kernel drop what the program refuses, for good. Raises OSError."""
    socket_program.attach(to, socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    to.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)


def program_of(kind: Kind, family: int, ports: list[int]) -> bytes:
    """Return the program for a raw socket of a family."""
    return _PROGRAMS[kind, family](ports)


_PROGRAMS: Final[dict[tuple[Kind, int], Callable[[list[int]], bytes]]] = {
    ("hints", socket.AF_INET): filter_ipv4,
    ("hints", socket.AF_INET6): filter_ipv6,
    ("unreachable", socket.AF_INET): unreachable_filter_ipv4,
    ("unreachable", socket.AF_INET6): unreachable_filter_ipv6,
}
