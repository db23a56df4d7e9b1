"""What the kernel reports of changes of this host, and which of it can concern a tunnel.

One socket for links, addresses, routes and rules, one for nftables, whose family is another. A
report is only a hint that something may be missing: whoever reads it compares what is there with
what is wanted (reconcile.py). Where reports are lost, anything may have changed.

Some changes come without a report of their own: the IPv4 routes of a device that goes down, or
loses its last address. The report of the link, or of the address, stands for them.
Source: linux/rtnetlink.h, linux/fib_rules.h, linux/netfilter/nf_tables.h, net/ipv4/fib_frontend.c.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from fastun.host.netlink.rtnetlink import RTA_OIF, attributes_of, messages_of, number
from fastun.host.routing.routing_rules import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from fastun.peers.peer import Network

_NEWLINK, _DELLINK, _NEWADDR, _DELADDR = 16, 17, 20, 21
_NEWROUTE, _DELROUTE, _DELRULE = 24, 25, 33
_REPLACES: Final = 0x100  # NLM_F_REPLACE
_FRA_PROTOCOL, _RTA_DST = 21, 1

# Groups 1, 5, 7, 8, 9, 11, 19: links; addresses, routes and rules of IPv4; of IPv6.
_ROUTE_GROUPS: Final = sum(1 << group - 1 for group in (1, 5, 7, 8, 9, 11, 19))

_NETFILTER: Final = 12  # NETLINK_NETFILTER
_NFTABLES_GROUP: Final = 1 << 7 - 1  # NFNLGRP_NFTABLES
_NFTABLES: Final = 10  # NFNL_SUBSYS_NFTABLES
# NFT_MSG_NEWTABLE, _DELTABLE, then the same of chains, rules, sets and their elements
_TABLE_CHANGES: Final = (0, 2, 3, 5, 6, 8, 9, 11, 12, 14)
_TABLE_NAME: Final = 1  # the attribute's number in all of them

_IFINFO: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_RTMSG: Final = struct.Struct("=8BI")  # family, destination bits, ...
_RULE_BYTES: Final = 12  # struct fib_rule_hdr
_NFGENMSG_BYTES: Final = 4

# On a router with many routes thousands of reports may come at once. The default holds a few
# hundred; what does not fit costs a comparison that may be needless.
_BUFFER_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 16
_READS_MAX: Final = 4096  # at a time: others need the event loop, too
#: Once for each queue that was too short; what is refused more often has no memory now.
_REFUSED_MAX: Final = 4


class Concern(enum.Flag):
    """What a report may mean for the tunnel."""

    NONE = 0
    OTHERS = enum.auto()  # addresses of other interfaces, which decide what may be pushed
    OURS = enum.auto()  # the device, its addresses and routes, our rules
    TABLE = enum.auto()  # an nft table of ours
    RULES = enum.auto()  # nft rules of others


class Report(NamedTuple):
    """One message of the kernel; `kind` and `flags` as in its header."""

    is_nft: bool
    kind: int
    flags: int
    body: bytes


class Filter:
    """Which reports concern one device, by its index."""

    def __init__(
        self,
        index: int,
        tables: Callable[[], Container[str]],
        routes: Callable[[], Container[Network]],
    ) -> None:
        """Look for the device, the nft tables ``tables()``, and routes to ``routes()``."""
        self._index = index
        self._tables = tables
        self._routes = routes

    def concern(self, report: Report) -> Concern:
        """Return what a report may mean."""
        _, kind, flags, body = report
        if report.is_nft:
            return self._of_nft(kind, body)
        if kind in (_NEWLINK, _DELLINK):
            return Concern.OURS if _IFINFO.unpack_from(body)[2] == self._index else Concern.NONE
        if kind in (_NEWADDR, _DELADDR):
            is_lost = kind == _DELADDR and _IFADDR.unpack_from(body)[4] == self._index
            return Concern.OURS if is_lost else Concern.OTHERS
        if kind == _DELROUTE or (kind == _NEWROUTE and flags & _REPLACES):
            return self._of_route(kind, body)
        if kind == _DELRULE:
            found = dict(attributes_of(body[_RULE_BYTES:]))
            return Concern.OURS if found.get(_FRA_PROTOCOL) == bytes((PROTOCOL,)) else Concern.NONE
        return Concern.NONE

    def _of_route(self, kind: int, body: bytes) -> Concern:
        """Return it for a route that was removed, or one that has replaced another."""
        found = dict(attributes_of(body[_RTMSG.size :]))
        is_its = RTA_OIF in found and number(found[RTA_OIF]) == self._index
        if kind == _DELROUTE or is_its:
            return Concern.OURS if is_its and kind == _DELROUTE else Concern.NONE
        family, length = _RTMSG.unpack_from(body)[:2]
        address = int.from_bytes(found.get(_RTA_DST, b""), "big")
        network = (IPv4Network if family == socket.AF_INET else IPv6Network)((address, length))
        return Concern.OURS if network in self._routes() else Concern.NONE

    def _of_nft(self, kind: int, body: bytes) -> Concern:
        if kind >> 8 != _NFTABLES or kind & 0xFF not in _TABLE_CHANGES:
            return Concern.NONE
        found = dict(attributes_of(body[_NFGENMSG_BYTES:]))
        name = found.get(_TABLE_NAME, b"").rstrip(b"\0").decode(errors="replace")
        return Concern.TABLE if name in self._tables() else Concern.RULES


class Notices:
    """The sockets. Event loop only; use as a context manager, in the device's namespace."""

    def __init__(self) -> None:
        """Listen from now on, as far as the kernel lets us. Raises OSError."""
        self._sockets = [_opened(socket.NETLINK_ROUTE, _ROUTE_GROUPS)]
        with contextlib.suppress(OSError):  # a kernel without nftables
            self._sockets.append(_opened(_NETFILTER, _NFTABLES_GROUP))

    def __enter__(self) -> Self:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:  # noqa: D105
        for each in self._sockets:
            each.close()

    async def wait(self, timeout_s: float) -> bool:
        """Return whether there are reports: at once, or that there are none after ``timeout_s``."""
        loop = asyncio.get_running_loop()
        come = asyncio.Event()
        for each in self._sockets:
            loop.add_reader(each, come.set)
        try:
            # Python 3.11's wait_for loses a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await come.wait()
        finally:
            for each in self._sockets:
                loop.remove_reader(each)
        return come.is_set()

    def read(self, concern_of: Callable[[Report], Concern]) -> Concern:
        """Return what the reports so far mean, all together."""
        found = Concern.NONE
        for each in self._sockets:
            is_nft = each.proto == _NETFILTER
            n_refused = 0
            for _ in range(_READS_MAX):
                try:
                    answer = each.recv(_READ_BYTES)
                except BlockingIOError:
                    break
                except OSError:  # ENOBUFS: more than its queue could hold
                    found |= Concern.TABLE | Concern.RULES if is_nft else Concern.OURS
                    n_refused += 1
                    if n_refused == _REFUSED_MAX:
                        break  # its socket stays readable
                    continue
                for report in reports(answer, is_nft=is_nft):
                    found |= concern_of(report)
        return found


def reports(answer: bytes, *, is_nft: bool) -> Iterator[Report]:
    """Yield the messages of one datagram."""
    for kind, flags, _, body in messages_of(answer):
        yield Report(is_nft, kind, flags, body)


def _opened(family: int, groups: int) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
    try:
        made.setblocking(False)
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        made.bind((0, groups))
    except OSError:
        made.close()
        raise
    return made


_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h; SO_RCVBUF stops at net.core.rmem_max
