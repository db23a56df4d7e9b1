"""Streams that UDP has taken over from: read for a moment, so that what is in them arrives."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.lane.messages import DetachLink

if TYPE_CHECKING:
    from fastun.link.link import Link

# What is still in the sockets when a peer changes to UDP is some round trips of data.
LINGER_S: Final = 5.0


class Lingering:
    """Those of all peers. Event loop only."""

    def __init__(self) -> None:
        """Begin without any."""
        self._links: dict[int, tuple[Link, asyncio.TimerHandle]] = {}  # by id
        self._log = log.get("link")

    def __contains__(self, link_id: int | None) -> bool:
        """Return whether the stream of this link is still read."""
        return link_id in self._links

    def of(self, slot: int) -> tuple[Link, ...]:
        """Return those of a peer."""
        return tuple(link for link, _ in self._links.values() if link.slot == slot)

    def add(self, link: Link) -> None:
        """Go on reading a stream that is not written any more."""
        if link.connection is None:
            return
        timer = asyncio.get_running_loop().call_later(LINGER_S, self._stop, link.id)
        self._links[link.id] = (link, timer)
        link.ended.set()

    def stop(
        self, slot: int | None = None, link_id: int | None = None, lane: int | None = None
    ) -> None:
        """End those of a slot, of an id, or of a lane; without any, all."""
        for link, _ in list(self._links.values()):
            is_meant = slot in (None, link.slot) and link_id in (None, link.id)
            if is_meant and lane in (None, link.lane.index):
                self._stop(link.id)

    def _stop(self, link_id: int) -> None:
        link, timer = self._links.pop(link_id)
        timer.cancel()
        link.lane.send("link-reader", DetachLink(link.slot))
        if link.connection is not None:
            hang_up(link.connection)
        self._log.debug("old stream drained and closed", peer=link.peer_name, remote=link.remote)


def hang_up(connection: socket.socket) -> None:
    """End a stream for all workers, which hold duplicates of the descriptor."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
