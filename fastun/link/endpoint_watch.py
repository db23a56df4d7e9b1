"""Detects, while links are up, route changes that lead our own packets into the tunnel.

Checked when the kernel reports changed routes, when a peer's address changes, and at intervals. A
peer on UDP keeps its session, but nothing is sent to it (the link-writer drops and counts) until
the route leads outside again; a stream is closed, and dialled again after that. Packets that have
entered the device in the meantime are dropped there (csrc/outbound/own_packets.h). A stream whose
route has changed to another interface is closed as well (stream_path.py).
"""

from __future__ import annotations

import time

from fastun.lane.messages import BlockLink
from fastun.link.inside import Inside
from fastun.link.stream_path import StreamPaths
from fastun.link.table import Link, LinkTable
from fastun.pace import PACE

LOOK_INTERVAL_S = 0.5

# All links, even without a report from the kernel: rules may depend on more than it reports.
ALL_INTERVAL_S = 10.0

# On a router routes change all the time, and 1,000 links are some 15 ms.
CHANGED_INTERVAL_S = 1.0


class EndpointWatch:
    """Looks at the routes to all peers with a link. Event loop only."""

    def __init__(self, links: LinkTable, inside: Inside) -> None:
        """Watch ``links``."""
        self._links = links
        self._inside = inside
        # By slot and lane: links that the link-writer sends nothing on.
        self._blocked: dict[tuple[int, int], int] = {}
        self._paths = StreamPaths(inside.lookup)
        self._all_seen_s = float("-inf")
        self._has_changed = False

    async def run(self) -> None:
        """Check at intervals, for ever."""
        while True:
            self.look(time.monotonic())
            await PACE.next_look(LOOK_INTERVAL_S)

    def look(self, now_s: float) -> None:
        """Check what may have changed since the last time."""
        self._has_changed = self._inside.routes_have_changed() or self._has_changed
        interval_s = CHANGED_INTERVAL_S if self._has_changed else ALL_INTERVAL_S
        # By the look that is next to it: one that comes a moment early would be left out.
        is_due = now_s - self._all_seen_s >= interval_s - LOOK_INTERVAL_S / 2
        if is_due:
            self._all_seen_s, self._has_changed = now_s, False
        for link in self._links.of_peers.all():
            if link.connection is None:
                self._look_at_datagrams(link, is_due=is_due)
            elif is_due or (self._links.dials and self._paths.is_new(link)):
                self._look_at_stream(link)

    def on_link_writer_death(self) -> None:
        """Send the state again, to its successor."""
        for link in self._links.of_peers.all():
            link.looked_at = None
        self._blocked.clear()

    def _look_at_datagrams(self, link: Link, *, is_due: bool) -> None:
        address, at = link.lane.peers.endpoint(link.slot), (link.slot, link.lane.index)
        if address is None or (not is_due and link.looked_at == address):
            return
        link.looked_at = address
        is_inside = self._inside.holds(address)
        if is_inside != (self._blocked.get(at) == link.id):
            link.lane.send("link-writer", BlockLink(link.slot, is_inside))
        if is_inside:
            self._blocked[at] = link.id
        else:
            self._blocked.pop(at, None)
        if is_inside and self._inside.keep_out(address.host):
            link.looked_at = None  # it is looked at again in a moment
            return
        self._inside.note(link.peer_name, str(address), is_inside=is_inside)

    def _look_at_stream(self, link: Link) -> None:
        if link.connection is None:
            return
        try:
            address = link.connection.getpeername()
        except OSError:  # it is ending
            return
        is_inside = self._inside.holds_stream(address)
        if not (is_inside and self._inside.keep_out(address[0])):
            self._inside.note(link.peer_name, link.remote, is_inside=is_inside)
        if is_inside:
            self._links.end(link.slot, "its route leads into the tunnel itself", link.id)
        elif self._links.dials and self._paths.is_lost(link):
            self._links.end(link.slot, "its route leaves by another interface now", link.id)
