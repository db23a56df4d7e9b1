"""The routing rules that the kernel has (ip-rule(8)), and changes of them.

Source: linux/fib_rules.h, net/core/fib_rules.c (fib_nl_newrule, fib_nl_delrule, fib_nl_fill_rule).
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Self

import msgspec

from fastun.host.netlink.netlink import CREATE_NEW, Message, Netlink
from fastun.host.netlink.rtnetlink import attribute, attributes_of, number

_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34

#: The attribute that says who has made it.
FRA_PROTOCOL: Final = 21
_FRA_DST, _FRA_PRIORITY, _FRA_FWMARK, _FRA_FWMASK = 1, 6, 10, 16
_FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE = 14, 15
_INVERTED: Final = 2  # FIB_RULE_INVERT

#: What a rule does: look a table up, or answer "unreachable".
TO_TABLE, UNREACHABLE = 1, 7

#: struct fib_rule_hdr: family, bits of the destination, table, action, flags.
HEADER: Final = struct.Struct("=BBxxBxxBI")
_U32: Final = struct.Struct("=I")
_NO_LENGTH: Final = 0xFFFFFFFF  # the kernel says so where nothing is suppressed


class Rule(msgspec.Struct, frozen=True):
    """One rule of an IP version: a packet for `destination` (None: any) that has the mark.

    `mark` and `mask` are 0 for any packet; a mark without a mask is compared whole. `is_inverted`:
    packets that this does not describe. Routes of `suppressed` bits or fewer do not count (-1: all
    do). `maker` is a number as routes have it.
    """

    family: int
    priority: int
    table: int
    action: int = TO_TABLE
    maker: int = 0
    mark: int = 0
    mask: int = 0
    destination: IPv4Network | IPv6Network | None = None
    suppressed: int = -1
    is_inverted: bool = False


class Rules:
    """Those of this thread's network namespace. One thread at a time; use as a context manager."""

    def __init__(self) -> None:
        """Open a socket. Raises OSError."""
        self._netlink = Netlink()

    def __enter__(self) -> Self:  # noqa: D105
        return self

    def __exit__(self, *error: object) -> None:  # noqa: D105
        self._netlink.__exit__(*error)

    def read(self) -> list[Rule]:
        """Return those of both IP versions, whoever made them. Raises OSError."""
        found: list[Rule] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                bodies = self._netlink.dump(_RTM_GETRULE, HEADER.pack(family, 0, 0, 0, 0))
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6
                    raise
                continue
            found += [_rule(body) for body in bodies if body[0] == family]
        return found

    def add(self, rule: Rule) -> None:
        """Make one. Raises OSError: EEXIST where it is there."""
        self._netlink.change_one(Message(_RTM_NEWRULE, CREATE_NEW, _body(rule)))

    def remove(self, rule: Rule) -> None:
        """Remove one. Raises OSError: ENOENT where it is not there."""
        self._netlink.change_one(Message(_RTM_DELRULE, 0, _body(rule)))


def _rule(body: bytes) -> Rule:
    family, length, table, action, flags = HEADER.unpack_from(body)
    found = dict(attributes_of(body[HEADER.size :]))

    def value(kind: int, otherwise: int) -> int:
        return number(found[kind]) if kind in found else otherwise

    suppressed = value(_FRA_SUPPRESS_PREFIXLEN, _NO_LENGTH)
    destination = None
    if _FRA_DST in found:
        address = int.from_bytes(found[_FRA_DST], "big")
        # Another program's may have bits beyond its length.
        network = IPv4Network if family == socket.AF_INET else IPv6Network
        destination = network((address, length), strict=False)
    return Rule(
        family=family,
        priority=value(_FRA_PRIORITY, 0),
        table=value(_FRA_TABLE, table),
        action=action,
        maker=found.get(FRA_PROTOCOL, b"\0")[0],
        mark=value(_FRA_FWMARK, 0),
        mask=value(_FRA_FWMASK, 0),
        destination=destination,
        suppressed=-1 if suppressed == _NO_LENGTH else suppressed,
        is_inverted=bool(flags & _INVERTED),
    )


def _body(rule: Rule) -> bytes:
    flags = _INVERTED if rule.is_inverted else 0
    length = 0 if rule.destination is None else rule.destination.prefixlen
    body = HEADER.pack(rule.family, length, 0, rule.action, flags)
    if rule.destination is not None:
        body += attribute(_FRA_DST, rule.destination.network_address.packed)
    body += attribute(_FRA_PRIORITY, _U32.pack(rule.priority))
    body += attribute(_FRA_TABLE, _U32.pack(rule.table))
    body += attribute(FRA_PROTOCOL, bytes((rule.maker,)))
    for kind, value in ((_FRA_FWMARK, rule.mark), (_FRA_FWMASK, rule.mask)):
        body += attribute(kind, _U32.pack(value)) if value else b""
    if rule.suppressed >= 0:
        body += attribute(_FRA_SUPPRESS_PREFIXLEN, _U32.pack(rule.suppressed))
    return body
