"""A gateway at one moment, as plain values: what metrics and status read instead of the gateway.

    Gateway --viewer.py--> GatewayView --> fastun.metrics (Prometheus), fastun.status (the operator)

Nothing in here refers back to the gateway, so a view can be read in any thread, for as long as one
likes. Its parts may be of slightly different moments, since nothing is stopped while it is taken.
Counts are since the start. ``packets``, ``frames`` and ``bytes`` count as csrc/shared/stats.h says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

import msgspec

from fastun.config.forward import Forward
from fastun.config.vocabulary import KillSwitch
from fastun.gateway.endpoint_view import EndpointView
from fastun.gateway.fleet_watch import FleetView
from fastun.gateway.worker_state import State
from fastun.host.socket_state import SocketState
from fastun.link.draining import DrainView
from fastun.link.last_error import LastError, Reason
from fastun.native import Confined, MacAddress, TcpInfo, Waiting
from fastun.peers.terms import Terms
from fastun.vocabulary import Mode, Role, Transport


class Histogram(NamedTuple):
    """Counts of values up to each bound, not cumulated; the last count is of all above."""

    upper_bounds: list[float]
    counts: list[int]
    sum: float


class ReadFile(msgspec.Struct, frozen=True):
    """The configuration in effect: since when, in Unix time, and why not what was read last."""

    since: float
    error: str = ""


class Configuration(msgspec.Struct, frozen=True):
    """What the gateway runs on at the moment.

    ``listen`` is empty for connect, ``endpoint`` None for serve, ``metrics`` None where it is off.
    ``public_key`` is this side's, None on a wire without keys. ``state_dir`` has the peers'
    directory, None where there is none. ``confined``: what the gateway has given up.
    """

    role: Role
    interface: str
    mode: Mode
    wire: str
    public_key: bytes | None
    addresses: tuple[str, ...]
    listen: tuple[str, ...]
    endpoint: str | None
    metrics: tuple[str, int] | None
    state_dir: str | None
    started: float  # Unix time
    read: ReadFile
    confined: Confined | None = None


class DeviceView(msgspec.Struct, frozen=True):
    """The TUN or TAP interface. ``statistics`` is the kernel's, empty once it is deleted.

    ``fault`` says why the host is not as the device needs it, empty where it is. ``repairs`` counts
    what was made again after others had removed it, by kind. ``host_pid`` is the process that
    makes and repairs all that.
    """

    name: str
    mtu: int
    statistics: dict[str, int]
    is_up: bool
    fault: str
    repairs: dict[str, int]
    kill_switch: KillSwitch
    host_pid: int
    forward: Forward | None = None  # what is forwarded from and to it
    obstacles: tuple[str, ...] = ()  # what keeps this host from that
    dns: DnsView | None = None


class DnsView(msgspec.Struct, frozen=True):
    """What a tunnel has set of this host's DNS; ``manager`` is systemd-resolved or the like.

    ``is_checked``: the servers were asked. ``fault`` says why names are not looked up as they
    should be, empty where they are.
    """

    servers: tuple[str, ...]
    domains: tuple[str, ...]
    manager: str
    is_checked: bool
    fault: str


class LinkView(msgspec.Struct, frozen=True, gc=False):
    """A peer's link; of several, the oldest.

    ``tcp`` and ``socket`` are None on UDP, and when the link ended just now.
    """

    id: int
    transport: Transport
    remote: str
    software: str  # as the peer sent it
    super_outbound: bool
    super_inbound: bool
    path_mtu: int  # in bytes, 0 where it is unknown
    since: float  # Unix time
    tcp: TcpInfo | None
    socket: SocketState | None
    lanes: tuple[int, ...] = (0,)  # that carry the peer


class Macs(NamedTuple):
    """The Ethernet addresses seen behind a peer in the last minutes: how many, and the first."""

    total: int
    first: list[MacAddress]


class PeerView(msgspec.Struct, frozen=True, gc=False):
    """A peer that may connect. ``counted`` has native.PEER_FIELDS, summed over all lanes.

    ``quota_used_bytes`` is of this month, 0 where there is no quota.
    ``last_error`` is why it is not connected, None where that is unknown; ``errors`` counts all.
    ``macs`` are the Ethernet addresses behind it, None where nothing is switched.
    """

    name: str
    allowed_ips: tuple[IPv4Network | IPv6Network, ...]
    terms: Terms
    quota_used_bytes: int
    counted: dict[str, int]
    last_handshake: float | None  # Unix time
    link: LinkView | None
    last_error: LastError | None
    errors: Mapping[Reason, int]
    macs: Macs | None = None


class RingView(msgspec.Struct, frozen=True):
    """A lane's ring of one direction."""

    used_bytes: int
    capacity_bytes: int


class WorkerView(msgspec.Struct, frozen=True):
    """A worker and what it has counted, with its predecessors.

    ``counters`` has native.COUNTERS, ``calls`` native.CALLS, ``drops`` each reason of its role.
    """

    role: str
    direction: str
    pid: int | None
    is_ready: bool
    state: State
    restarts: int
    cpu_seconds: float
    counters: dict[str, int]
    calls: dict[str, int]
    drops: dict[str, int]
    batch_frames: Histogram
    queue_delay: Histogram  # in seconds; of writers
    confined: Confined | None  # None until it has started once
    forbidden_calls: dict[str, int]  # system calls that it was killed for, by number
    unresponsive: dict[str, int]  # how often it was replaced for being so, by "stopped" and "stuck"


class LaneView(msgspec.Struct, frozen=True):
    """A lane: its rings by direction, its workers by role, and how they wait (LanePlan)."""

    index: int
    waiting: Waiting
    rings: dict[str, RingView]
    workers: dict[str, WorkerView]


class SessionCounts(msgspec.Struct, frozen=True):
    """What happened to sessions; ``handshakes`` is by result. Only on the wireguard wire."""

    handshakes: dict[str, int]
    rekeys: int


class PathCounts(msgspec.Struct, frozen=True):
    """Path MTUs lowered by cause, and ICMP hints by result. Only on UDP."""

    narrowings: dict[str, int]
    hints: dict[str, int]


class GatewayView(msgspec.Struct, frozen=True):
    """A running gateway at one moment."""

    configuration: Configuration
    device: DeviceView
    peers: tuple[PeerView, ...]
    lanes: tuple[LaneView, ...]
    udp_sockets: tuple[SocketState, ...]  # in the order in which they were opened
    counts: dict[str, int]  # what happened to connections and links, by name
    sessions: SessionCounts | None
    paths: PathCounts | None
    health: Health
    fleet: FleetView | None = None
    drain: DrainView | None = None  # while it is drained
    endpoints: tuple[EndpointView, ...] = ()  # of a client that has several

    def workers(self) -> Iterator[tuple[LaneView, WorkerView]]:
        """Yield every worker with its lane."""
        for lane in self.lanes:
            for worker in lane.workers.values():
                yield lane, worker

    def of_role(self, role: str) -> Iterator[WorkerView]:
        """Yield the worker ``role`` of every lane."""
        for lane in self.lanes:
            yield lane.workers[role]


class Health(msgspec.Struct, frozen=True):
    """What a probe asks: cheap to take, however many peers there are."""

    workers_down: tuple[str, ...]
    is_linked: bool
    needs_link: bool  # traffic can pass only with a link
    waits_for: tuple[str, ...] = ()  # what it is to listen on and cannot yet
    device_fault: str = ""  # why the host is not as the device needs it
    dns_fault: str = ""  # why names are not looked up as they should be
    draining: str = ""  # how far that is

    def not_healthy(self) -> str:
        """Return why the gateway does not do its work; empty where it does."""
        return f"not at work: {' '.join(self.workers_down)}" if self.workers_down else ""

    def not_ready(self) -> str:
        """Return why traffic cannot pass, or not from everywhere; empty where it can."""
        if self.workers_down:
            return self.not_healthy()
        if self.draining:
            return self.draining
        if self.device_fault:
            return self.device_fault
        if self.needs_link and not self.is_linked:
            return "no link"
        return f"waiting for {', '.join(self.waits_for)}" if self.waits_for else ""

    def ready_but(self) -> str:
        """Return what is wrong though traffic can pass: nothing to keep it away for, or restart."""
        return f"DNS does not work: {self.dns_fault}" if self.dns_fault else ""


class ViewClosedError(Exception):
    """No view can be taken any more: the gateway has ended."""


TakeView = Callable[[], GatewayView]  # raises ViewClosedError
TakeHealth = Callable[[], Health]
