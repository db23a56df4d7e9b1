"""Looks up the way that the kernel would send a packet of our own sockets."""

from __future__ import annotations

import functools
from ipaddress import ip_address
from typing import NamedTuple

from fastun.host.netlink.rtnetlink import (
    RTA_GATEWAY,
    RTA_OIF,
    RTA_PREFSRC,
    RTM_F_FIB_MATCH,
    RTN_LOCAL,
    Address,
    RouteChanges,
    RouteQuestions,
    number,
)


class Way(NamedTuple):
    """How a packet leaves: by which interface and router, and from which of our addresses."""

    interface: int = 0  # its index; 0: no way
    gateway: bytes = b""
    source: Address | None = None


NO_WAY = Way()


@functools.lru_cache(maxsize=64)  # few, and each is remembered of many peers
def _way(interface: int, gateway: bytes, source: Address | None) -> Way:
    return Way(interface, gateway, source)


class RouteLookup:
    """Two netlink sockets. Event loop only."""

    def __init__(self, fwmark: int) -> None:
        """Ask for packets with ``fwmark``; 0 is none. Raises OSError."""
        self._questions = RouteQuestions(fwmark)
        self._changes = RouteChanges()

    def close(self) -> None:
        """Close the sockets."""
        self._questions.close()
        self._changes.close()

    def have_changed(self) -> bool:
        """Return whether links, addresses, routes or rules have changed since the last time."""
        return self._changes.have_come()

    def interface_to(
        self, host: Address, port: int, protocol: int, source: Address | None = None
    ) -> int:
        """Return the index of the interface of ``way_to``."""
        return self.way_to(host, port, protocol, source).interface

    def way_to(self, host: Address, port: int, protocol: int, source: Address | None = None) -> Way:
        """Return the way by which ``host`` is reached.

        ``protocol`` is IPPROTO_UDP or IPPROTO_TCP; ``source`` our address, if it is fixed.
        NO_WAY: no route, or the kernel returned an error, as for a source that this host has not.
        """
        try:
            route = self._questions.ask(host, source=source, protocol=protocol, port=port)
        except OSError:
            return NO_WAY
        preferred = route.attributes.get(RTA_PREFSRC)
        return _way(
            number(route.attributes.get(RTA_OIF, b"")),
            route.attributes.get(RTA_GATEWAY, b""),
            ip_address(preferred) if preferred else source,
        )

    def home_of(self, address: Address) -> int:
        """Return the index of the interface that has the address; 0: none, or it is down."""
        try:
            route = self._questions.ask(address, flags=RTM_F_FIB_MATCH)
        except OSError:
            return 0
        return number(route.attributes.get(RTA_OIF, b"")) if route.kind == RTN_LOCAL else 0
