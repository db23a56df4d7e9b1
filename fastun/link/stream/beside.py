"""Further connections to a server that has several lanes, as this side has: one for each lane.

The first connection is the dialler's. While it or any other carries the peer, further ones are
dialled at its address, one at a time (a server admits one handshake of a peer at a time), each when
those that there are have enough to do (lane/opening.py). One that ends (a worker of its lane has
died, say) is made again, and the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.host.sockets.address import EndpointAddress
from fastun.link.hello import HelloError
from fastun.link.peer_lanes import has_one_lane
from fastun.link.stream import sockets
from fastun.pace import PACE
from fastun.session.refusal import HandshakeError

if TYPE_CHECKING:
    from fastun.link.link import Link
    from fastun.link.outside import Outside
    from fastun.link.stream.handshake import Handshaker
    from fastun.link.stream.owner import StreamOwner
    from fastun.link.table import LinkTable

LOOK_INTERVAL_S: Final = 0.25

# Initiations of a peer that come sooner than 20 ms after one another are refused (the responder's
# guard against replays), and timestamps have steps of 17 ms.
HANDSHAKE_PAUSE_S: Final = 0.05

# After a connection that could not be made: each further one doubles it.
PAUSE_FIRST_S: Final = 0.5
PAUSE_MAX_S: Final = 60.0


class BesideDialler:
    """Keeps the further connections to one server. Event loop only."""

    def __init__(
        self, handshaker: Handshaker, owner: StreamOwner, outside: Outside, links: LinkTable
    ) -> None:
        """Prepare to keep as many as both sides have lanes, and there is load for."""
        self._handshaker = handshaker
        self._owner = owner
        self._outside = outside
        self._links = links
        self._pause_s = PAUSE_FIRST_S
        self._opened: set[int] = set()  # numbers of those that there were once
        self._log = log.get("link")

    async def run(self) -> None:
        """Look for what is missing, for ever."""
        while True:
            await PACE.next_look(LOOK_INTERVAL_S)
            link = self._links.by_slot.get(self._handshaker.dialled.slot)
            if link is None or link.connection is None:
                continue
            for number in self._missing(link):
                if not self._is_worth(link, number):
                    break
                await asyncio.sleep(HANDSHAKE_PAUSE_S)
                if not await self._make(link, number):
                    await asyncio.sleep(self._pause_s)
                    self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
                    break
                self._pause_s = PAUSE_FIRST_S
                self._opened.add(number)
                self._links.lanes.opening.note_opened()

    def _is_worth(self, link: Link, number: int) -> bool:
        in_use = (each.lane.index for each in self._links.of_peers.of(link.slot))
        return number in self._opened or self._links.lanes.opening.is_worth(in_use)

    def _missing(self, link: Link) -> list[int]:
        """Return the numbers of the connections that there are not; the first is the dialler's."""
        lanes = self._links.lanes
        n_lanes = 1 if has_one_lane(link.slotted.peer.terms) else min(len(lanes.all), link.n_lanes)
        there = {each.lane.index for each in self._links.of_peers.of(link.slot)}
        return [n for n in range(1, n_lanes) if lanes.of_stream(link.slot, n).index not in there]

    async def _make(self, link: Link, number: int) -> bool:
        """Make one more to where the link leads; return whether it is there."""
        with contextlib.ExitStack() as unless_established:
            try:
                connection = await sockets.dial(_address_of(link), self._outside)
                unless_established.callback(connection.close)
                established = await self._handshaker.connect(connection, number)
                self._owner.establish(established, connection, link.remote)
            except (HandshakeError, HelloError, OSError) as error:
                self._log.debug("no further connection", number=number, error=str(error))
                return False
            unless_established.pop_all()
        return True


def _address_of(link: Link) -> EndpointAddress:
    """Return where a stream leads. OSError: it has ended."""
    assert link.connection is not None  # noqa: S101 (the caller looked)
    return EndpointAddress.of_peer(link.connection)
