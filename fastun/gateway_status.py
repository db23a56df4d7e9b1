"""What ``fastun status`` is told: the structs of the reply, and reading them from the gateway.

The fields are the keys of ``fastun status --json``, and stay. Names end in their unit; times are
Unix times in seconds. ``packets``, ``frames`` and ``bytes`` count as the metrics do: a super-packet
is one frame and as many packets as the network would see; bytes are without any header of fastun.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import msgspec

from fastun import __version__, _native
from fastun._native import ROLES
from fastun.endpoint import format_host_port

if TYPE_CHECKING:
    from fastun.gateway import Gateway, Link
    from fastun.lane import Lane


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One worker of a lane and what it has counted, its predecessors included.

    A reader counts what it took in, dropped or not; a writer what it delivered. ``drops`` holds
    the packets dropped by reason, with every reason that the role has.
    """

    role: Literal["tun-reader", "link-writer", "link-reader", "tun-writer"]
    pid: int | None
    up: bool
    restarts: int
    cpu_seconds: float
    packets: int
    frames: int
    bytes: int
    drops: dict[str, int]


class Direction(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a lane, in the order in which a packet meets its parts."""

    reader: Stage
    ring_used_bytes: int
    ring_capacity_bytes: int
    writer: Stage


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One lane."""

    lane: int
    outbound: Direction
    inbound: Direction


class Tcp(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel tells of the link's TCP connection."""

    rtt_seconds: float
    retransmits: int
    notsent_bytes: int


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The link of this moment. ``tcp`` is null when it ended just now."""

    remote: str
    software: str
    transport: Literal["tcp"]
    since_unix_seconds: float
    super_packets_outbound: bool
    super_packets_inbound: bool
    tcp: Tcp | None


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to links since the start."""

    established: int
    reconnects: int
    refused: int
    hello_failures: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway. ``listen`` is empty for connect, ``endpoint`` null for serve.

    ``metrics`` is null where it is off, ``link`` where there is none.
    """

    version: str
    pid: int
    role: Literal["serve", "connect"]
    interface: str
    mode: Literal["tun", "tap"]
    wire: str
    addresses: list[str]
    mtu_bytes: int
    started_unix_seconds: float
    listen: list[str]
    endpoint: str | None
    metrics: str | None
    peer: str
    link: LinkStatus | None
    links: Links
    lanes: list[LaneStatus]


def read_status(gateway: Gateway) -> Status:
    """Return the status of this moment. On the event loop."""
    settings, counts = gateway.settings, gateway.counts
    return Status(
        version=__version__,
        pid=os.getpid(),
        role=settings.role,
        interface=settings.interface,
        mode=settings.mode,
        wire=settings.wire,
        addresses=[str(address) for address in settings.addresses],
        mtu_bytes=settings.mtu,
        started_unix_seconds=gateway.started,
        listen=[str(endpoint) for endpoint in settings.listen],
        endpoint=None if settings.endpoint is None else str(settings.endpoint),
        metrics=None if settings.metrics is None else format_host_port(*settings.metrics),
        peer=settings.peer_name,
        link=None if gateway.link is None else _link(gateway.link),
        links=Links(
            established=counts.established,
            reconnects=counts.reconnects,
            refused=counts.refused,
            hello_failures=counts.failed_hellos,
        ),
        lanes=[_lane(gateway.lane)],
    )


def _link(link: Link) -> LinkStatus:
    return LinkStatus(
        remote=link.remote,
        software=link.peer_software,
        transport="tcp",
        since_unix_seconds=link.since,
        super_packets_outbound=link.link_format.super_outbound,
        super_packets_inbound=link.link_format.super_inbound,
        tcp=_tcp(link),
    )


def _tcp(link: Link) -> Tcp | None:
    try:
        info = _native.tcp_info(link.connection)
    except OSError:
        return None
    return Tcp(
        rtt_seconds=info.rtt_s,
        retransmits=info.n_retransmits,
        notsent_bytes=info.notsent_bytes,
    )


def _lane(lane: Lane) -> LaneStatus:
    stages = {role: _stage(lane, role) for role in ROLES}
    return LaneStatus(
        lane=lane.index,
        outbound=_direction(lane, "outbound", stages["tun-reader"], stages["link-writer"]),
        inbound=_direction(lane, "inbound", stages["link-reader"], stages["tun-writer"]),
    )


def _direction(lane: Lane, name: str, reader: Stage, writer: Stage) -> Direction:
    ring = lane.rings[name]
    return Direction(
        reader=reader,
        ring_used_bytes=ring.used_bytes(),
        ring_capacity_bytes=ring.size_bytes,
        writer=writer,
    )


def _stage(lane: Lane, role: str) -> Stage:
    worker, stats = lane.workers[role], lane.stats
    return Stage(
        role=role,  # type: ignore[arg-type]  # ROLES are these four
        pid=None if worker.process is None else worker.process.pid,
        up=worker.is_ready,
        restarts=worker.restarts,
        cpu_seconds=worker.cpu_seconds(),
        packets=stats.counter(role, "packets"),
        frames=stats.counter(role, "frames"),
        bytes=stats.counter(role, "bytes"),
        drops={drop.reason: n for drop, n in stats.drops() if drop.role == role},
    )
