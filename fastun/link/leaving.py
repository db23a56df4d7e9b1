"""A client that is asked by its gateway to go elsewhere (drain_messages.py).

    asked --> the address is to be left --> another endpoint is tried, while the session goes on
                                             |--> its session is there: it takes over, and the old
                                             |    one is left
                                             `--> none answers, or there is no other: the client
                                                  stays to the end, and tries again

On UDP a handshake tries the others (datagram/address_race.py); on a stream they are dialled
(stream/dialler.py). Whoever asks, names no address: a client moves among its own endpoints only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from fastun import log
from fastun.errors import ConfigError
from fastun.lane.messages import SendControl
from fastun.link import drain_messages
from fastun.link.drain_messages import DRAIN_MAX_S, Drain, DrainTaken
from fastun.session import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.host.sockets.address import EndpointAddress
    from fastun.link.datagram.sessions import DatagramSessions
    from fastun.link.endpoint_health import Host
    from fastun.link.link import Link
    from fastun.link.outside import Outside
    from fastun.link.slotted_peer import SlottedPeer
    from fastun.link.stream.sessions import StreamSessions
    from fastun.link.table import LinkTable

LOOK_INTERVAL_S: Final = 0.5

# Between two tries at the others, where the gateway that is to be left was the one that answered.
AGAIN_S: Final = 5.0


class LeavingOwner(Protocol):
    """The gateway, as far as it leaves a server."""

    links: LinkTable
    outside: Outside
    sessions: StreamSessions | None
    datagrams: DatagramSessions | None


class Leaving:
    """Of one client. Event loop only."""

    view: None = None  # as of Draining: a client is not drained

    def __init__(self, owner: LeavingOwner) -> None:
        """Begin without having been asked."""
        self._owner = owner
        self._said: dict[int, Host] = {}  # by link, where it led: the log has it
        self._again_s: dict[int, float] = {}  # by slot
        self._asked = asyncio.Event()
        self._log = log.get("drain")

    def admits(self, _: SlottedPeer) -> bool:
        """Return whether a peer may begin a session."""
        return True

    def order(self, timeout_s: float | None) -> None:
        """Refuse to be drained. Raises ConfigError."""
        del timeout_s
        raise ConfigError("it is a client, and has none; 'fastun disconnect' ends it")

    def is_asked(self, link: Link | None = None) -> bool:
        """Return whether the link, or that of slot 0, is to a gateway that is to be left."""
        link = link or self._owner.links.by_slot.get(0)
        host = None if link is None else self._owner.links.host_of(link)
        return host is not None and self._owner.outside.health.is_left(host)

    def receive(self, slot: int, index: int, message: bytes) -> bool:
        """Take a control message under the key ``index``; return whether it was about this."""
        drain = drain_messages.decode(message, Drain)
        if drain is None:
            return False
        link = self._owner.links.by_slot.get(slot)
        # One that was asked again, and has another session by now, is not to leave that one.
        if link is not None and self._is_of(link, index):
            self._take(link, drain)
        return True

    def _is_of(self, link: Link, index: int) -> bool:
        sessions = self._owner.datagrams if link.connection is None else self._owner.sessions
        return sessions is not None and sessions.is_current(link.slot, index)

    def _take(self, link: Link, drain: Drain) -> None:
        health, host = self._owner.outside.health, self._owner.links.host_of(link)
        if host is None or self._is_of_others(link, host):
            return
        if drain.drain == 0:
            health.return_to(host)
            if self._said.get(link.id) == host:
                del self._said[link.id]
                self._say(link, "the server is not drained any more")
            return
        health.leave(host, min(drain.drain, DRAIN_MAX_S))
        has_elsewhere = self._has_elsewhere(link)
        answer = drain_messages.encode(DrainTaken(drain.number, has_elsewhere))
        link.lane.send("tun-reader", SendControl(link.slot, answer))
        what = "trying the other endpoints" if has_elsewhere else "there is no other endpoint"
        if self._said.get(link.id) != host:
            living = {each.id for each in self._owner.links.by_slot.values()}
            self._said = {id_: said for id_, said in self._said.items() if id_ in living}
            self._said[link.id] = host
            self._say(link, f"the server is drained and asks to be left; {what}")
        self._asked.set()

    def _is_of_others(self, link: Link, host: Host) -> bool:
        """Return whether the address is an endpoint of other servers, and none of this one.

        A server is where its datagrams say that they come from, which it can forge.
        """
        of_link = {
            link.slot: {place.host for place in self._places(link)}
            for link in self._owner.links.by_slot.values()
        }
        own = of_link.pop(link.slot, set())
        return host not in own and any(host in others for others in of_link.values())

    def _places(self, link: Link) -> Iterator[EndpointAddress]:
        known = self._owner.outside.names.known
        return (place for each in link.slotted.peer.endpoints for place in known(each))

    def _say(self, link: Link, event: str) -> None:
        self._log.info(event, peer=link.peer_name, remote=link.remote)

    def _has_elsewhere(self, link: Link) -> bool:
        """Return whether an endpoint may be at another gateway; an unresolved name may."""
        outside = self._owner.outside
        for endpoint in link.slotted.peer.endpoints:
            places = outside.names.known(endpoint)
            if not places or any(not outside.health.is_left(each.host) for each in places):
                return True
        return False

    async def run(self) -> None:
        """Try the others while a gateway is to be left, for ever."""
        while True:
            await self._asked.wait()
            now_s = clock.boottime_s()
            links = list(self._owner.links.by_slot.values())
            asked = [link for link in links if self.is_asked(link)]
            for link in asked:
                if now_s >= self._again_s.get(link.slot, 0.0) and self._has_elsewhere(link):
                    self._again_s[link.slot] = now_s + AGAIN_S
                    if self._owner.datagrams is not None:
                        self._owner.datagrams.doubt(link.slot)
            if not asked:
                self._asked.clear()
                self._again_s.clear()
                self._said.clear()
                continue
            await asyncio.sleep(LOOK_INTERVAL_S)
