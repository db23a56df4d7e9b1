"""In which lanes the links of each peer are, and what the tun-readers know of that.

A peer that has several lanes as well has a connection in each, all of one bundle: what one start of
its gateway has dialled. A lane that comes to others is sent frames by those only when its own
tun-reader has link and key: that one hears of it first, and answers.

    announce --SetWays--> tun-reader of the new lane --WaysSet--> on_set --SetWays--> all others
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from fastun.lane.ways import SetWays
from fastun.peers.terms import NO_LIMIT, Terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lane.lanes import Lanes
    from fastun.lane.worker_process import WorkerProcess
    from fastun.link.link import Link


def has_one_lane(terms: Terms) -> bool:
    """Return whether a peer is held to a rate, which the workers of one lane do."""
    return terms.limit != NO_LIMIT or terms.quota is not None


class PeerLanes:
    """Of all peers with a link. Event loop only."""

    def __init__(self, lanes: Lanes, *, by_flow: bool) -> None:
        """Begin without links. ``by_flow``: this side decides which lane a flow has (SetWays)."""
        self._lanes = lanes
        self._by_flow = by_flow
        self._links: dict[int, tuple[Link, ...]] = {}  # by slot, in the order of their coming
        # Slots, and which number is to be answered by which lane.
        self._announced: dict[int, tuple[int, int]] = {}
        self._numbers = itertools.count(1)

    def all(self) -> Iterator[Link]:
        """Yield all links."""
        for links in list(self._links.values()):
            yield from links

    def of(self, slot: int) -> tuple[Link, ...]:
        """Return the peer's links, the oldest first."""
        return self._links.get(slot, ())

    def lanes_of(self, slot: int) -> tuple[int, ...]:
        """Return the numbers of the lanes that frames for the peer go by."""
        return tuple(sorted(each.lane.index for each in self.of(slot) if not each.is_resting))

    def carries(self, link: Link) -> bool:
        """Return whether the link is there, and none has taken its place."""
        return any(each is link for each in self.of(link.slot))

    def add(self, link: Link) -> None:
        """Have a link, whose lane carries none of the peer."""
        self._links[link.slot] = (*self.of(link.slot), link)

    def remove(self, link: Link) -> None:
        """Have it no more; what is read for the peer goes to the others at once."""
        links = tuple(each for each in self._links.pop(link.slot) if each is not link)
        if links:
            self._links[link.slot] = links
        self._announced.pop(link.slot, None)
        self._lanes.set_ways(self._ways(link.slot))

    def rest(self, link: Link) -> None:
        """Have nothing go by a link that stays, from now on and until it is announced again."""
        link.is_resting = True
        self._announced.pop(link.slot, None)
        self._lanes.set_ways(self._ways(link.slot))

    def announce(self, link: Link) -> None:
        """Have frames for the peer go to the link, which its workers have by now, with its key."""
        link.is_resting = False
        self._lanes.open(link.lane)
        if len(self.of(link.slot)) == 1:
            self._lanes.set_ways(self._ways(link.slot))
            return
        number = next(self._numbers)
        self._announced[link.slot] = (number, link.lane.index)
        self._lanes.set_ways(self._ways(link.slot, number), link.lane)

    def note_sealed(self, link: Link | None, index: int) -> None:
        """Have all know what goes by a link on UDP, should a route lead it back into the device."""
        if link is None:
            return
        link.sealed_for = index
        if link.slot not in self._announced:  # else all hear of it with the new lane
            self._lanes.set_ways(self._ways(link.slot))

    def on_set(self, slot: int, number: int, lane: int) -> None:
        """Tell all: the new lane is ready, if it is that one that says so."""
        if self._announced.get(slot) == (number, lane):
            del self._announced[slot]
            self._lanes.set_ways(self._ways(slot))

    def tell(self, worker: WorkerProcess) -> None:
        """Tell a fresh tun-reader, which answers in the place of one that was killed."""
        for slot in self._links:
            number, lane = self._announced.get(slot, (0, worker.lane))
            ways = self._ways(slot, number if lane == worker.lane else 0)
            self._lanes.set_ways(ways, self._lanes.all[worker.lane])

    def _ways(self, slot: int, number: int = 0) -> SetWays:
        sealed = tuple(each.sealed_for for each in self.of(slot) if each.sealed_for is not None)
        return SetWays(slot, self.lanes_of(slot), self._by_flow, number, sealed)
