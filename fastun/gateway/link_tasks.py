"""What makes a gateway's links, each to be run beside the rest: an acceptor, a dialler, a choice.

On UDP only the choice between it and streams takes a task: sessions there begin by themselves, and
those with a known endpoint are begun here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Protocol

from fastun.config.settings import Settings
from fastun.endpoint import Endpoint
from fastun.host.process.gateway_device import GatewayDevice
from fastun.lane.lanes import Lanes
from fastun.link.datagram.sessions import DatagramSessions
from fastun.link.draining import Draining
from fastun.link.listening import Listening
from fastun.link.names import refuse_missing
from fastun.link.outside import Outside
from fastun.link.preference import Preference
from fastun.link.stream.acceptor import Acceptor, ConnectionCounts
from fastun.link.stream.dialler import Dialler
from fastun.link.stream.half_open import make_way
from fastun.link.stream.handshake import Handshaker
from fastun.link.stream.owner import StreamOwner
from fastun.link.stream.sessions import StreamSessions
from fastun.link.table import LinkTable

if TYPE_CHECKING:
    from fastun.link.leaving import Leaving


class LinkOwner(StreamOwner, Protocol):
    """The gateway, as far as links need it."""

    settings: Settings
    device: GatewayDevice
    lanes: Lanes
    links: LinkTable
    outside: Outside
    listening: Listening
    handshaker: Handshaker
    sessions: StreamSessions | None
    datagrams: DatagramSessions | None
    moves: Draining | Leaving
    counts: ConnectionCounts


def link_tasks(owner: LinkOwner) -> list[Coroutine[None, None, None]]:
    """Return them; begin the sessions on UDP that are to begin at once."""
    settings, outside = owner.settings, owner.outside
    endpoints = settings.listen if settings.role == "serve" else settings.endpoints
    tasks = [
        refuse_missing(outside.names, endpoints, lambda: owner.links.n_established > 0),
        owner.listening.run(),
    ]
    if settings.role == "connect" and owner.datagrams is not None:
        tasks.append(owner.datagrams.silence.run())
    if settings.role == "connect" and settings.wire == "wireguard":
        from fastun.link.fail_back import FailBack  # noqa: PLC0415 (of a client alone)

        tasks.append(FailBack(owner).run())
    streams = _streams(owner.settings)
    if streams and settings.role == "connect":
        wanted, choices = _stream_wanted(owner)
        dialler = Dialler(
            lambda: _streams(owner.settings),
            owner.handshaker,
            owner,
            outside,
            wanted,
            is_to_leave=owner.moves.is_asked,
        )
        return [*tasks, *choices, dialler.run(), *_beside(owner)]
    if owner.datagrams is not None:
        owner.datagrams.begin_all()
        # In a fleet they are at another gateway by now, and would be called away from there.
        if settings.role == "serve" and settings.fleet is None:
            tasks.append(_remember(owner.listening, owner.datagrams))
    if streams:
        acceptor = Acceptor(
            owner.listening.streams,
            owner.handshaker,
            owner,
            outside.inside,
            owner.counts,
            turn_away=outside.sockets.turn_away,
        )
        owner.listening.leave_stream = acceptor.leave
        tasks.append(acceptor.run())
        if settings.fwmark:
            tasks.append(_make_way(owner))
    return tasks


def moves_of(owner: LinkOwner) -> Draining | Leaving:
    """Return what has peers go to other gateways, or goes there itself."""
    if owner.settings.role == "serve":
        return Draining(owner)
    from fastun.link.leaving import Leaving  # noqa: PLC0415 (of a client alone)

    return Leaving(owner)


def _beside(owner: LinkOwner) -> list[Coroutine[None, None, None]]:
    """Return what makes the connections of further lanes."""
    if len(owner.lanes.all) == 1:
        return []
    from fastun.link.stream.beside import BesideDialler  # noqa: PLC0415 (of several lanes alone)

    return [BesideDialler(owner.handshaker, owner, owner.outside, owner.links).run()]


def _streams(settings: Settings) -> tuple[Endpoint, ...]:
    endpoints = settings.listen if settings.role == "serve" else settings.endpoints
    return tuple(endpoint for endpoint in endpoints if endpoint.scheme == "tcp")


async def _make_way(owner: LinkOwner) -> None:
    """Have routes to the device make way for clients that are in their networks."""

    def ports() -> set[int]:
        return {endpoint.port for endpoint in _streams(owner.settings)}

    def has_routes() -> bool:
        return owner.device.now.has_routes

    await make_way(owner.outside.inside, ports, has_routes)


async def _remember(listening: Listening, datagrams: DatagramSessions) -> None:
    """Call clients, as soon as there are the sockets that they know."""
    await listening.all_bound.wait()
    await datagrams.remembered.run()


def _stream_wanted(
    owner: LinkOwner,
) -> tuple[asyncio.Event, list[Coroutine[None, None, None]]]:
    """Return what is set while a stream is wanted, and the task that sets it, if it takes one."""
    if owner.datagrams is None:
        always = asyncio.Event()
        always.set()
        return always, []
    latest = owner.lanes.peers.latest if len(owner.lanes.all) > 1 else None
    preference = Preference(owner.lanes.udp, owner.links, owner.datagrams, slot=0, latest=latest)
    preference.is_to_leave = owner.moves.is_asked
    return preference.wants_stream, [preference.run()]
