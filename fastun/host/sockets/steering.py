"""Which of several UDP sockets of one port gets a datagram: by what it is, and by its index.

    types 1 to 3 (handshakes)   the first socket
    data                        by the low byte of the receiver's index, modulo their number
    anything else               the first

In types 1 and 2 the word behind the type is the sender's index, so the type comes first. The kernel
runs the program with the payload from offset 0 (net/core/sock_reuseport.c); it returns a socket by
the order in which they were bound.
"""

from __future__ import annotations

import socket
from typing import Final

from fastun.host.sockets import binding, socket_program
from fastun.host.sockets.address import EndpointAddress
from fastun.host.sockets.maker import SocketMaker
from fastun.host.sockets.socket_program import INSTRUCTION
from fastun.native import MessageType

_SO_ATTACH_REUSEPORT_CBPF: Final = 51  # asm-generic/socket.h
_LOAD_BYTE, _JUMP_IF_EQUAL, _MODULO, _RETURN, _RETURN_A = 0x30, 0x15, 0x94, 0x06, 0x16
_INDEX_AT: Final = 4


def program(n_sockets: int) -> bytes:
    """Return the instructions, for so many sockets."""
    chacha, aes = MessageType.DATA, MessageType.DATA_AES
    return b"".join(
        (
            INSTRUCTION.pack(_LOAD_BYTE, 0, 0, 0),
            INSTRUCTION.pack(_JUMP_IF_EQUAL, 2, 0, chacha),
            INSTRUCTION.pack(_JUMP_IF_EQUAL, 1, 0, aes),
            INSTRUCTION.pack(_RETURN, 0, 0, 0),
            INSTRUCTION.pack(_LOAD_BYTE, 0, 0, _INDEX_AT),
            INSTRUCTION.pack(_MODULO, 0, 0, n_sockets),
            INSTRUCTION.pack(_RETURN_A, 0, 0, 0),
        )
    )


def attach(first: socket.socket, n_sockets: int) -> None:
    """Steer what comes to the port of a socket and of those bound after it. Raises OSError."""
    socket_program.attach(first, socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program(n_sockets))


def beside(first: socket.socket, n_sockets: int, maker: SocketMaker) -> tuple[socket.socket, ...]:
    """Return the further ones of ``n_sockets`` at the address of a bound socket. OSError."""
    at = EndpointAddress.of(first)
    made: list[socket.socket] = []
    try:
        # The kernel looks for others only where this stays set (net/ipv4/udp.c). A second gateway
        # does not get in: its first socket is bound without it.
        binding.allow_overlap(first)
        while len(made) < n_sockets - 1:
            made.append(maker.datagrams(at, is_beside=True))
            binding.allow_overlap(made[-1])
        attach(first, n_sockets)
    except BaseException:
        for each in made:
            each.close()
        raise
    return tuple(made)
