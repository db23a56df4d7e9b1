"""Looks up the interface that the kernel would use for a packet of our own sockets."""

from __future__ import annotations

from ipaddress import ip_address

from fastun.host.rtnetlink import (
    RTA_OIF,
    RTA_PREFSRC,
    Address,
    RouteChanges,
    RouteQuestions,
    number,
)


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
        """Return the index of the interface by which ``host`` is reached.

        ``protocol`` is IPPROTO_UDP or IPPROTO_TCP; ``source`` our address, if it is fixed. 0:
        no route, or the kernel returned an error.
        """
        try:
            route = self._questions.ask(host, source=source, protocol=protocol, port=port)
        except OSError:
            return 0
        return number(route.attributes.get(RTA_OIF, b""))

    def way_to(self, host: Address, port: int, protocol: int) -> tuple[int, Address | None]:
        """Return the index of the interface as `interface_to`, and our address on the way."""
        try:
            route = self._questions.ask(host, protocol=protocol, port=port)
        except OSError:
            return 0, None
        source = route.attributes.get(RTA_PREFSRC, b"")
        return number(route.attributes.get(RTA_OIF, b"")), ip_address(source) if source else None
