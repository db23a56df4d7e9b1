"""Every socket of a gateway whose making takes a privilege, and what makes it.

    listeners         ports below 1024 (CAP_NET_BIND_SERVICE)
    datagrams         the same; large buffers (CAP_NET_ADMIN)
    outgoing          nothing but the mark (CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17)
    icmp              raw sockets (CAP_NET_RAW), which hear what their filter passes
    channel           large buffers

All but those of the metrics and channels have the mark of the settings, if there is one. A socket
keeps what it was made with, so who uses it needs no privilege.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Final, Literal, Protocol

from fastun.host.sockets import binding, icmp_filter, syn_filter
from fastun.host.sockets.address import EndpointAddress

#: What a listener is for.
Purpose = Literal["links", "metrics"]

#: The kernel's queues of UDP between two turns of a worker: some 4 ms at 10 Gbit/s.
DATAGRAM_BUFFER_BYTES: Final = 4 * 1024 * 1024

#: For what arrives between two turns of reading; only a flood overflows it.
ICMP_BUFFER_BYTES: Final = 128 * 1024

#: What may wait in a channel: as many handshake messages as the link-reader's gate lets through at
#: once (csrc/inbound/handshake_gate.h). The kernel counts some 1 KiB a message.
CHANNEL_BUFFER_BYTES: Final = 1024 * 1024

_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h


class SocketMaker(Protocol):
    """What a gateway gets its sockets from. Any thread. All raise OSError."""

    def listener(
        self, at: EndpointAddress, purpose: Purpose = "links", *, is_beside: bool = False
    ) -> socket.socket:
        """Return a bound socket of TCP, as `binding.bound`; it does not listen yet."""

    def datagrams(self, at: EndpointAddress, *, is_beside: bool = False) -> socket.socket:
        """Return a bound socket of UDP, as `binding.bound`, with large buffers."""

    def outgoing(self, family: int, kind: int) -> socket.socket:
        """Return a socket of TCP or UDP that is bound to nothing; it does not block."""

    def icmp(self, kind: icmp_filter.Kind, family: int, ports: list[int]) -> socket.socket:
        """Return a raw socket that hears ICMP of a kind about datagrams from our ports."""

    def turn_away(self, listener: socket.socket, sources: Sequence[bytes]) -> None:
        """Drop what comes from these sources to a listener, as `syn_filter.attach`."""

    def channel(self) -> tuple[socket.socket, socket.socket]:
        """Return the ends of a control channel (fastun/lane/channel.py)."""


class OwnSockets:
    """A SocketMaker with the privileges of this process."""

    def __init__(self, fwmark: int = 0) -> None:
        """Mark every packet with ``fwmark``; 0 is none."""
        self._fwmark = fwmark

    def listener(
        self, at: EndpointAddress, purpose: Purpose = "links", *, is_beside: bool = False
    ) -> socket.socket:
        """As SocketMaker."""
        fwmark = self._fwmark if purpose == "links" else 0
        return binding.bound(at, socket.SOCK_STREAM, fwmark, is_beside=is_beside)

    def datagrams(self, at: EndpointAddress, *, is_beside: bool = False) -> socket.socket:
        """As SocketMaker."""
        made = binding.bound(at, socket.SOCK_DGRAM, self._fwmark, is_beside=is_beside)
        with _closed_unless_made(made):
            _enlarge(made, _SO_SNDBUFFORCE, socket.SO_SNDBUF, DATAGRAM_BUFFER_BYTES)
            _enlarge(made, _SO_RCVBUFFORCE, socket.SO_RCVBUF, DATAGRAM_BUFFER_BYTES)
        return made

    def outgoing(self, family: int, kind: int) -> socket.socket:
        """As SocketMaker."""
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        with _closed_unless_made(made):
            if self._fwmark:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._fwmark)
        return made

    def icmp(self, kind: icmp_filter.Kind, family: int, ports: list[int]) -> socket.socket:
        """As SocketMaker."""
        protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
        made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        with _closed_unless_made(made):
            icmp_filter.attach_filter(made, icmp_filter.program_of(kind, family, ports))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ICMP_BUFFER_BYTES)
        return made

    def turn_away(self, listener: socket.socket, sources: Sequence[bytes]) -> None:
        """As SocketMaker."""
        syn_filter.attach(listener, sources)

    def channel(self) -> tuple[socket.socket, socket.socket]:
        """As SocketMaker."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            _enlarge(end, _SO_SNDBUFFORCE, socket.SO_SNDBUF, CHANNEL_BUFFER_BYTES)
        return ends


#: Without a mark.
OWN: Final = OwnSockets()


@contextlib.contextmanager
def _closed_unless_made(made: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        made.close()
        raise


def _enlarge(each: socket.socket, forced: int, plain: int, n_bytes: int) -> None:
    try:
        each.setsockopt(socket.SOL_SOCKET, forced, n_bytes)
    except OSError:  # without CAP_NET_ADMIN as much as the administrator allows
        each.setsockopt(socket.SOL_SOCKET, plain, n_bytes)
