"""Routing tables: which have routes. pyroute2 would read every route of the host for that."""

from __future__ import annotations

import struct
from typing import Final

from fastun.host.netlink.netlink import Netlink
from fastun.host.netlink.rtnetlink import RTM_GETROUTE, RTMSG, attribute, attributes_of, number

_RTA_TABLE: Final = 15
_TABLE_OFFSET: Final = 4  # in struct rtmsg


def in_use() -> set[int]:
    """Return the numbers of all tables that have routes. Raises OSError."""
    return _of(_ask(0, b""))


def has_routes(family: int, table: int) -> bool:
    """Return whether a table has routes of one IP version."""
    try:
        bodies = _ask(family, attribute(_RTA_TABLE, struct.pack("=I", table)))
    except OSError:  # there is no such table
        return False
    return table in _of([body for body in bodies if body[0] == family])


def _ask(family: int, filters: bytes) -> list[bytes]:
    with Netlink() as netlink:
        return netlink.dump(RTM_GETROUTE, RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + filters)


def _of(bodies: list[bytes]) -> set[int]:
    found = set()
    for body in bodies:
        table = dict(attributes_of(body[RTMSG.size :])).get(_RTA_TABLE)
        found.add(number(table) if table else body[_TABLE_OFFSET])
    return found
