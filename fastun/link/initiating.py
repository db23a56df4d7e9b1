"""Initiations on UDP: to where the peer was last heard, then to what its names resolve to."""

from __future__ import annotations

import asyncio

from fastun import log
from fastun.endpoint import Endpoint
from fastun.link import udp
from fastun.link.correspondent import Correspondent
from fastun.link.correspondents import Correspondents
from fastun.link.greeting import SealedGreeter
from fastun.link.inside import Inside, LeadsInsideError
from fastun.link.udp import UdpSockets
from fastun.peers.roster import Member
from fastun.session import clock

# Initiations in a row without an answer, 5 s apart, after which it is logged.
SILENT_ATTEMPTS = 2


class Initiator:
    """Sends one initiation each time it is asked to. Event loop only."""

    def __init__(
        self, greeter: SealedGreeter, sockets: UdpSockets, known: Correspondents, inside: Inside
    ) -> None:
        """Send by ``sockets``; ``known`` is told by which index the answer will come."""
        self._inside = inside
        self._known = known
        self._greeter = greeter
        self._sockets = sockets
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = log.get("session")

    def initiate(self, correspondent: Correspondent) -> None:
        """Send an initiation to the peer; a name is resolved meanwhile."""
        task = asyncio.create_task(self._initiate(correspondent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _initiate(self, correspondent: Correspondent) -> None:
        peer = correspondent.member.peer.name
        try:
            await self._find_address(correspondent)
            # It may have been removed while its name was resolved.
            if correspondent.address is None or not self._known.is_present(correspondent):
                return
            initiation, state = self._greeter.initiate(
                correspondent.member, correspondent.jar.current(clock.boottime_s())
            )
            self._known.wait_for_response(correspondent, state)
            correspondent.jar.remember_sent(initiation)
            self._sockets.send(initiation, correspondent.address)
            self._inside.note(peer, str(correspondent.address), is_inside=False)
            self._log.debug("initiation sent", peer=peer, to=str(correspondent.address))
            self._warn_of_tap(correspondent)
        except LeadsInsideError:
            self._inside.note(peer, str(correspondent.address), is_inside=True)
        except OSError as error:
            self._log.warning("cannot reach", peer=peer, error=error.strerror or str(error))

    def _warn_of_tap(self, correspondent: Correspondent) -> None:
        """Say, once until it answers, why a peer with a TAP device may be silent."""
        member = correspondent.member
        is_tap = self._greeter.hello_for(member).mode == "tap"
        if is_tap and correspondent.n_attempts == SILENT_ATTEMPTS:
            self._log.warning(
                "no answer; another peer may be using its TAP device, which takes only one",
                peer=member.peer.name,
                remote=str(correspondent.address),
            )

    async def _find_address(self, correspondent: Correspondent) -> None:
        attempt, endpoints = correspondent.n_attempts, endpoints_of(correspondent.member)
        correspondent.n_attempts += 1
        if not endpoints or (attempt == 0 and correspondent.address is not None):
            return
        endpoint = endpoints[attempt % len(endpoints)]
        loop = asyncio.get_running_loop()
        found = udp.resolved(await loop.getaddrinfo(endpoint.host, endpoint.port))
        host, port, zone = found[(attempt // len(endpoints)) % len(found)]
        correspondent.address = self._sockets.address_of(host, port, zone)


def endpoints_of(member: Member) -> list[Endpoint]:
    """Return where a member may be found on UDP."""
    return [endpoint for endpoint in member.peer.endpoints if endpoint.scheme == "udp"]
