"""What ``fastun status`` is told: the structs of the reply, and reading them from the gateway.

The fields are the keys of ``fastun status --json``, and stay. Names end in their unit; times are
Unix times in seconds. ``packets``, ``frames`` and ``bytes`` count as the metrics do: a super-packet
is one frame and as many packets as the network would see; bytes are without any header of fastun.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import msgspec

from fastun import __version__, native
from fastun.endpoint import format_host_port
from fastun.metrics.sockets import SocketState, socket_state
from fastun.metrics.worker_states import Ends, State, ends_of, state_of
from fastun.native import DIRECTIONS, ROLES

if TYPE_CHECKING:
    from fastun.gateway.gateway import Gateway, Link
    from fastun.lane.lane import Lane
    from fastun.link.peer_slots import SlottedPeer

# One of each IP version is usual; a reply with all peers has to stay within its bounds.
INNER_ADDRESSES_MAX = 4

_COUNTED_BY_PEER = (
    "receive_packets",
    "receive_bytes",
    "transmit_packets",
    "transmit_bytes",
    "dropped_packets",
    "no_session_packets",
)


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One worker of a lane and what it has counted, its predecessors included.

    A reader counts what it took in, dropped or not; a writer what it delivered. ``drops`` holds
    the packets dropped by reason, with every reason that the role has. ``state`` is that of the
    moment of the reply, as in the metric fastun_worker_state.
    """

    role: Literal["tun-reader", "link-writer", "link-reader", "tun-writer"]
    pid: int | None
    up: bool
    state: State
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
    """The link of this moment. ``tcp`` is null on UDP, and when it ended just now."""

    software: str
    transport: Literal["tcp", "udp"]
    super_packets_outbound: bool
    super_packets_inbound: bool
    tcp: Tcp | None


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One peer. ``remote``, ``since_unix_seconds`` and ``link`` are null while it is not up.

    ``since_unix_seconds`` is when the link came up. ``last_handshake_unix_seconds`` is null when
    there was none, as on the unsealed wires. ``dropped_packets`` counts what was for the peer and
    did not go out, since it was not connected or does not read. ``inner_addresses`` are those of
    its allowed IPs that are a single host, the first four: where the peer is inside the tunnel.
    """

    name: str
    inner_addresses: list[str]
    up: bool
    remote: str | None
    since_unix_seconds: float | None
    last_handshake_unix_seconds: float | None
    receive_packets: int
    receive_bytes: int
    transmit_packets: int
    transmit_bytes: int
    dropped_packets: int
    link: LinkStatus | None


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to links since the start; ``reconnects``: of peers that had one before."""

    established: int
    reconnects: int
    refused: int
    hello_failures: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway. ``listen`` is empty for connect, ``endpoint`` null for serve.

    ``metrics`` is null where it is off. ``peers`` are all that may connect, connected or not.
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
    peers: list[PeerStatus]
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
        mtu_bytes=gateway.device.mtu,
        started_unix_seconds=gateway.started,
        listen=list(map(str, settings.listen)) if settings.role == "serve" else [],
        endpoint=str(settings.endpoint) if settings.role == "connect" else None,
        metrics=None if settings.metrics is None else format_host_port(*settings.metrics),
        peers=[_peer(gateway, slotted) for slotted in gateway.peer_slots.by_slot.values()],
        links=Links(
            established=gateway.links.n_established,
            reconnects=gateway.links.n_reconnects,
            refused=counts.refused,
            hello_failures=counts.failed_hellos,
        ),
        lanes=[_lane(gateway.lane, _ends(gateway))],
    )


def _peer(gateway: Gateway, slotted: SlottedPeer) -> PeerStatus:
    slot, link = slotted.slot, gateway.links.by_slot.get(slotted.slot)
    counted = {field: gateway.lane.peers.read(slot, field) for field in _COUNTED_BY_PEER}
    return PeerStatus(
        name=slotted.peer.name,
        inner_addresses=_inner_addresses(slotted),
        up=link is not None,
        remote=None if link is None else link.remote,
        since_unix_seconds=None if link is None else link.since,
        last_handshake_unix_seconds=gateway.session_counts.last_handshake.get(slot),
        receive_packets=counted["receive_packets"],
        receive_bytes=counted["receive_bytes"],
        transmit_packets=counted["transmit_packets"],
        transmit_bytes=counted["transmit_bytes"],
        dropped_packets=counted["dropped_packets"] + counted["no_session_packets"],
        link=None if link is None else _link(link),
    )


def _inner_addresses(slotted: SlottedPeer) -> list[str]:
    hosts = (network for network in slotted.peer.allowed_ips if network.num_addresses == 1)
    return [str(host.network_address) for host in itertools.islice(hosts, INNER_ADDRESSES_MAX)]


def _link(link: Link) -> LinkStatus:
    return LinkStatus(
        software=link.peer_software,
        transport=link.transport,
        super_packets_outbound=link.link_format.super_outbound,
        super_packets_inbound=link.link_format.super_inbound,
        tcp=_tcp(link),
    )


def _tcp(link: Link) -> Tcp | None:
    if link.connection is None:
        return None
    try:
        info = native.tcp_info(link.connection)
    except OSError:
        return None
    return Tcp(
        rtt_seconds=info.rtt_s,
        retransmits=info.n_retransmits,
        notsent_bytes=info.notsent_bytes,
    )


def _ends(gateway: Gateway) -> Ends:
    links = list(gateway.links.by_slot.values())
    return ends_of(gateway, links, _socket_states(gateway, links))


def _socket_states(gateway: Gateway, links: list[Link]) -> Iterator[SocketState]:
    streams = [link.connection for link in links if link.connection is not None]
    for each in (*streams, *gateway.sockets.all()):
        with contextlib.suppress(OSError):  # ended just now
            yield socket_state(each)


def _lane(lane: Lane, ends: Ends) -> LaneStatus:
    stages = {role: _stage(lane, role, ends) for role in ROLES}
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


def _stage(lane: Lane, role: str, ends: Ends) -> Stage:
    worker, stats = lane.workers[role], lane.stats
    return Stage(
        role=role,  # type: ignore[arg-type]  # ROLES are these four
        pid=None if worker.process is None else worker.process.pid,
        up=worker.is_ready,
        state=state_of(role, lane.rings[DIRECTIONS[role]], ends),
        restarts=worker.restarts,
        cpu_seconds=worker.cpu_seconds(),
        packets=stats.counter(role, "packets"),
        frames=stats.counter(role, "frames"),
        bytes=stats.counter(role, "bytes"),
        drops={drop.reason: n for drop, n in stats.drops() if drop.role == role},
    )
