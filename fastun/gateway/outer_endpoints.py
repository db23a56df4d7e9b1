"""Where a gateway's own packets go: routes make way for it, and a kill switch lets them pass.

names resolve --place()--> kill switch, routes --> the new addresses are used
peers move    --run()----> kill switch; endpoint_watch.py sees to the routes
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, Protocol

from fastun.host.routing import outer_addresses
from fastun.host.routing.outer_addresses import OuterEndpoint
from fastun.link.source_limits import TokenBucket
from fastun.pace import PACE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.config.settings import Settings
    from fastun.gateway.pushed_settings import PushedSettings
    from fastun.host.process.gateway_kill_switch import GatewayKillSwitch
    from fastun.host.routing.outer_addresses import OuterAddress
    from fastun.lane.lanes import Lanes
    from fastun.link.datagram.sessions import DatagramSessions
    from fastun.link.outside import Outside
    from fastun.link.table import LinkTable

# A peer on UDP that moves is followed by the workers at once; what they send in the meantime is
# dropped and counted.
LOOK_INTERVAL_S: Final = 0.5

# A kill switch's table is made anew each time, some 10 ms of CPU. A server that moves all the time
# costs no more than this: the last of its endpoints counts.
FOLLOWED_PER_SECOND: Final = 0.2
FOLLOWED_BURST: Final = 10


class Sender(Protocol):
    """The gateway, as far as its own packets go."""

    settings: Settings
    lanes: Lanes
    links: LinkTable
    outside: Outside
    datagrams: DatagramSessions | None
    pushed_settings: PushedSettings


class OuterEndpoints:
    """Those of one gateway, read from it whenever they are asked for. Event loop only."""

    def __init__(self, sender: Sender) -> None:
        """Prepare; ``sender`` need not be complete before the first question."""
        self._sender = sender

    def addresses(self) -> set[OuterAddress]:
        """Return the addresses that our own packets go to at the moment."""
        sender, settings = self._sender, self._sender.settings
        listened = settings.listen if settings.role == "serve" else ()
        found = sender.outside.names.hosts(but={endpoint.host for endpoint in listened})
        found |= sender.outside.inside.kept_out
        if sender.datagrams is not None:
            found |= sender.datagrams.addresses()
        return found | {endpoint.host for endpoint in self._of_streams()}

    def endpoints(self) -> frozenset[OuterEndpoint]:
        """Return these with protocol and port: of a client, which knows where it dials."""
        settings = self._sender.settings
        dialled = settings.endpoints if settings.role == "connect" else ()
        known = self._sender.outside.names.known
        return frozenset(
            (
                *(OuterEndpoint(e.scheme, a.host, a.port) for e in dialled for a in known(e)),
                *self._of_streams(),
                *self._of_datagrams(),
            )
        )

    def _of_streams(self) -> Iterator[OuterEndpoint]:
        for link in list(self._sender.links.by_slot.values()):
            with contextlib.suppress(OSError):  # it is ending
                if link.connection is not None:
                    host, port, *_ = link.connection.getpeername()
                    yield OuterEndpoint("tcp", outer_addresses.parsed(host), port)

    def _of_datagrams(self) -> Iterator[OuterEndpoint]:
        for slot, link in list(self._sender.links.by_slot.items()):
            address = (
                self._sender.lanes.udp.peers.endpoint(slot) if link.connection is None else None
            )
            if address is not None:
                yield OuterEndpoint("udp", address.host, address.port)

    async def place(self) -> None:
        """Have our own packets get out to where they go now, before they do."""
        await self._follow()
        await self._sender.pushed_settings.place_outer()

    async def run(self) -> None:
        """Have a kill switch, while there is one, follow peers that move, for ever."""
        kill_switch = self._sender.outside.kill_switch
        if kill_switch is not None and self._sender.settings.role == "connect":
            await self._follow_all(kill_switch)

    async def _follow_all(self, kill_switch: GatewayKillSwitch) -> None:
        limit = TokenBucket(FOLLOWED_PER_SECOND, FOLLOWED_BURST)
        while True:
            await kill_switch.turned_on.wait()
            if not self._is_followed() and limit.take(time.monotonic()):
                await self._follow()
            await PACE.next_look(LOOK_INTERVAL_S)

    def _is_followed(self) -> bool:
        kill_switch = self._sender.outside.kill_switch
        return kill_switch is None or kill_switch.follows(self.endpoints())

    async def _follow(self) -> None:
        kill_switch, endpoints = self._sender.outside.kill_switch, self.endpoints()
        if kill_switch is not None and not kill_switch.follows(endpoints):
            await asyncio.to_thread(kill_switch.follow, endpoints)
