"""A client that goes back to an endpoint that it prefers, once that has answered for some time.

    at another --> the preferred one is asked --> and again, half the time later --> and at its end
                                                   the client goes there, as from a gateway that is
                                                   drained: the new session is there before the old
                                                   one is left (leaving.py)

Whatever does not answer begins the count anew, and twice as late each time; so does a return that
has not lasted. On UDP it is asked by a handshake that comes to nothing (handshake_probe.py), on TCP
by a connection that is closed again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from fastun import log
from fastun.link.stream import sockets
from fastun.pace import PACE
from fastun.session import clock

if TYPE_CHECKING:
    from fastun.host.sockets.address import EndpointAddress
    from fastun.link.datagram.sessions import DatagramSessions
    from fastun.link.endpoint_health import Host, Key
    from fastun.link.link import Link
    from fastun.link.outside import Outside
    from fastun.link.table import LinkTable

LOOK_INTERVAL_S: Final = 1.0

# How long an answer may take.
ANSWER_S: Final = 2.0

# It is asked so often before the client goes there. A gateway that has sent three responses which
# were not confirmed says so at the fourth (refusals.py).
ASKED: Final = 2

# While it goes there: what is left is tried last for so long.
GOING_S: Final = 10.0

# A return that has lasted for so many times what is waited for it is one that counts.
LASTED: Final = 10
PAUSE_MAX_S: Final = 3600.0


class _Return(msgspec.Struct):
    """What a peer's return waits for. Times are CLOCK_BOOTTIME."""

    due_s: float
    n_answers: int = 0
    n_failures: int = 0
    returned_s: float = float("-inf")


class FailBackOwner(Protocol):
    """The gateway, as far as its links go back."""

    links: LinkTable
    outside: Outside
    datagrams: DatagramSessions | None


class FailBack:
    """Of all peers of a client. Event loop only."""

    def __init__(self, owner: FailBackOwner) -> None:
        """Begin without knowing of any."""
        self._owner = owner
        self._returns: dict[int, _Return] = {}  # by slot
        self._log = log.get("link")

    async def run(self) -> None:
        """Look at each link now and then, for ever."""
        while True:
            await PACE.next_look(LOOK_INTERVAL_S)
            for link in list(self._owner.links.by_slot.values()):
                if link.slotted.peer.fail_back_s:
                    await self._look(link)

    async def _look(self, link: Link) -> None:
        slot, wait_s, now_s = link.slot, link.slotted.peer.fail_back_s, clock.boottime_s()
        host, preferred = self._preferred(link)
        waiting = self._returns.setdefault(slot, _Return(now_s + wait_s / ASKED))
        if host is None or preferred is None:
            if now_s - waiting.returned_s >= LASTED * wait_s:
                waiting.n_failures = 0
            waiting.n_answers = 0
            self._wait(waiting, wait_s, now_s)
            return
        if now_s < waiting.due_s:
            return
        if waiting.n_answers < ASKED:
            if await self._answers(link, preferred):
                waiting.n_answers += 1
            else:
                waiting.n_answers = 0
                waiting.n_failures += 1
            self._wait(waiting, wait_s, clock.boottime_s())
            return
        self._go(link, host, preferred)
        waiting.n_answers, waiting.returned_s = 0, now_s
        waiting.n_failures += 1  # until it has lasted
        self._wait(waiting, wait_s, now_s)

    def _wait(self, waiting: _Return, wait_s: float, now_s: float) -> None:
        n_times = 1 if waiting.n_answers else 2 ** min(waiting.n_failures, 20)
        waiting.due_s = now_s + min(wait_s / ASKED * n_times, PAUSE_MAX_S)

    def _preferred(self, link: Link) -> tuple[Host | None, EndpointAddress | None]:
        """Return where the link leads, and the first place that is preferred to that."""
        outside, peer = self._owner.outside, link.slotted.peer
        host = self._owner.links.host_of(link)
        places = [
            place
            for endpoint in peer.endpoints
            if endpoint.scheme == link.transport
            for place in outside.names.known(endpoint)
        ]
        for place in outside.health.preferred(peer, places, _key):
            if place.host == host:
                break
            if not outside.health.is_left(place.host):
                return host, place
        return host, None

    async def _answers(self, link: Link, place: EndpointAddress) -> bool:
        if link.connection is None:
            return await self._answers_on_udp(link, place)
        with contextlib.suppress(OSError):
            async with asyncio.timeout(ANSWER_S):
                (await sockets.dial(place, self._owner.outside)).close()
                return True
        return False

    async def _answers_on_udp(self, link: Link, place: EndpointAddress) -> bool:
        datagrams = self._owner.datagrams
        if datagrams is None:
            return False
        with contextlib.suppress(OSError):
            datagrams.probes.ask(link.slotted, place)
            await asyncio.sleep(ANSWER_S)
        return datagrams.probes.has_answered(link.slot)

    def _go(self, link: Link, host: Host, preferred: EndpointAddress) -> None:
        self._log.info(
            "an endpoint that is preferred answers again; going back there",
            peer=link.peer_name,
            to=str(preferred.host),
        )
        health = self._owner.outside.health
        health.answered((link.transport, preferred.host, preferred.port))
        health.leave(host, GOING_S)
        if self._owner.datagrams is not None and link.connection is None:
            self._owner.datagrams.doubt(link.slot)


def _key(place: EndpointAddress) -> Key:
    return "udp", place.host, place.port
