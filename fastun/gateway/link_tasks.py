"""What makes a gateway's links, each to be run beside the rest: an acceptor, a dialler, a choice.

On UDP only the choice between it and streams takes a task: sessions there begin by themselves, and
those with a known endpoint are begun here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Protocol

from fastun import log
from fastun.config.settings import Settings
from fastun.endpoint import format_host_port
from fastun.lane.lane import Lane
from fastun.link.datagram.sessions import DatagramSessions
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.inside import Inside
from fastun.link.preference import Preference
from fastun.link.stream.acceptor import Acceptor, ConnectionCounts
from fastun.link.stream.dialler import Dialler
from fastun.link.stream.handshake import Handshaker
from fastun.link.stream.owner import StreamOwner
from fastun.link.table import LinkTable


class LinkOwner(StreamOwner, Protocol):
    """The gateway, as far as links need it."""

    settings: Settings
    lane: Lane
    links: LinkTable
    inside: Inside
    handshaker: Handshaker
    sockets: UdpSockets
    datagrams: DatagramSessions | None
    counts: ConnectionCounts


def link_tasks(owner: LinkOwner) -> list[Coroutine[None, None, None]]:
    """Return them; begin the sessions on UDP that are to begin at once."""
    for host, port in owner.sockets.ports():
        log.get("link").info("listening", address=format_host_port(host, port), transport="udp")
    settings, inside = owner.settings, owner.inside
    endpoints = settings.listen if settings.role == "serve" else settings.endpoints
    streams = tuple(endpoint for endpoint in endpoints if endpoint.scheme == "tcp")
    if streams and settings.role == "connect":
        wanted, tasks = _stream_wanted(owner)
        dialler = Dialler(streams, owner.handshaker, owner, inside, wanted, fwmark=settings.fwmark)
        return [*tasks, dialler.run()]
    if owner.datagrams is not None:
        owner.datagrams.begin_all()
    if not streams:
        return []
    acceptor = Acceptor(
        streams, owner.handshaker, owner, inside, owner.counts, fwmark=settings.fwmark
    )
    return [acceptor.run()]


def _stream_wanted(
    owner: LinkOwner,
) -> tuple[asyncio.Event, list[Coroutine[None, None, None]]]:
    """Return what is set while a stream is wanted, and the task that sets it, if it takes one."""
    if owner.datagrams is None:
        always = asyncio.Event()
        always.set()
        return always, []
    preference = Preference(owner.lane, owner.links, owner.datagrams, slot=0)
    return preference.wants_stream, [preference.run()]
