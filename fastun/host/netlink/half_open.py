"""TCP connections to us that have begun and not ended their handshake, which no socket shows.

Source: sock_diag(7), linux/inet_diag.h, net/ipv4/inet_diag.c.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from fastun.host.netlink.netlink import Netlink

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_NETLINK_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_SYN_RECEIVED: Final = 1 << 3  # TCPF_SYN_RECV; the kernel takes it for TCPF_NEW_SYN_RECV as well
# inet_diag_req_v2: family, protocol, extensions, states; the ports and addresses are no filter.
_REQUEST: Final = struct.Struct("=BBBxI48x")
# inet_diag_msg: family; our port, theirs; our address, theirs.
_SOCKET: Final = struct.Struct("!Bxxx2H16s16s")

Source = tuple[IPv4Address | IPv6Address, int]


def sources(ports: Collection[int]) -> set[Source]:
    """Return from where connections to these ports of ours have begun. Raises OSError."""
    found: set[Source] = set()
    with Netlink(_NETLINK_SOCK_DIAG) as kernel:
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _SYN_RECEIVED)
            found.update(_sources(kernel.dump(_BY_FAMILY, body), ports))
    return found


def _sources(messages: list[bytes], ports: Collection[int]) -> Iterator[Source]:
    for message in messages:
        family, ours, theirs, _, source = _SOCKET.unpack_from(message)
        if ours not in ports:
            continue
        if family == socket.AF_INET:
            yield IPv4Address(source[:4]), theirs
        else:
            address = IPv6Address(source)
            yield address.ipv4_mapped or address, theirs
