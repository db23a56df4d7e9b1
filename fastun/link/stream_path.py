"""A stream that we have dialled, and the uplink that it was dialled by.

Its address is fixed for its life. When the route to the server comes to leave by another interface,
what the stream sends is dropped on the way or answered elsewhere, and TCP takes 25 s to notice. A
stream that is dialled anew costs a round trip or two.
"""

from __future__ import annotations

import socket

from fastun.host.routing.outer_addresses import parsed
from fastun.host.routing.route_lookup import RouteLookup
from fastun.link.table import Link


class StreamPaths:
    """Looks at the routes of dialled streams. Event loop only."""

    def __init__(self, lookup: RouteLookup | None) -> None:
        """Ask ``lookup``; without one, no path is ever lost."""
        self._lookup = lookup
        self._seen: int | None = None  # the last link that was looked at
        self._fitting: int | None = None  # the link whose address was its interface's

    def is_new(self, link: Link) -> bool:
        """Return whether the link was not looked at yet: how it begins has to be known."""
        return link.id != self._seen

    def is_lost(self, link: Link) -> bool:
        """Return whether the link's packets now leave by another interface than its address's.

        Only where they did not before: an address of the loopback interface, for example, may be
        used on purpose. Without any route, it may come back.
        """
        self._seen = link.id
        if self._lookup is None or link.connection is None:
            return False
        try:
            ours, theirs = link.connection.getsockname(), link.connection.getpeername()
        except OSError:  # it is ending
            return False
        host = parsed(theirs[0])
        leaves_by = self._lookup.interface_to(host, theirs[1], socket.IPPROTO_TCP)
        if leaves_by and leaves_by == self._lookup.home_of(parsed(ours[0])):
            self._fitting = link.id
            return False
        return leaves_by != 0 and self._fitting == link.id
