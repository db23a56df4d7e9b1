"""What ``fastun status`` receives: the structs of the reply.

The fields are the keys of ``fastun status --json``, and stay. Names end in their unit; times are
Unix times in seconds. ``packets``, ``frames`` and ``bytes`` count as the metrics do: a super-packet
is one frame and as many packets as the network would see; bytes are without any header of fastun.
"""

from __future__ import annotations

import msgspec

from fastun.config.vocabulary import KillSwitch
from fastun.gateway.worker_state import State
from fastun.vocabulary import Mode, Role, Transport, WorkerRole


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One worker of a lane and what it has counted, its predecessors included.

    A reader counts what it took in, dropped or not; a writer what it delivered. ``drops`` holds
    the packets dropped by reason, with every reason that the role has. ``state`` is that of the
    moment of the reply, as in the metric fastun_worker_state.
    """

    role: WorkerRole
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
    """One lane.

    ``hand_over``: its readers do the step of a writer that sleeps themselves. ``spin_microseconds``
    is how long a writer looks for the next packet before it sleeps. ``crossed_packets`` went from
    its tun-reader to those of other lanes, which carry their peers.
    """

    lane: int
    hand_over: bool = False
    spin_microseconds: int = 0
    crossed_packets: int = 0
    outbound: Direction
    inbound: Direction


class Tcp(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel says about the link's TCP connection."""

    rtt_seconds: float
    retransmits: int
    notsent_bytes: int


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The link of this moment. ``tcp`` is null on UDP, and when it ended just now.

    ``lanes`` carry the peer at this moment, by a connection each, or on UDP by a session each;
    ``tcp`` is the oldest connection's.
    """

    software: str
    transport: Transport
    super_packets_outbound: bool
    super_packets_inbound: bool
    lanes: list[int] = msgspec.field(default_factory=lambda: [0])
    tcp: Tcp | None


class LastError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a peer is not connected. ``reason`` is one of docs/metrics.md, ``text`` for people.

    ``unix_seconds`` is when it was seen last, ``first_unix_seconds`` since when there were errors,
    which a gateway of an older version does not say.
    """

    reason: str
    unix_seconds: float
    text: str
    first_unix_seconds: float | None = None


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer may use. A limit, in bytes a second, and the quota are null where there is none.

    ``limited_packets`` were dropped because of them, in both directions, ``not_permitted_packets``
    because of where the peer may send to.
    """

    limit_outbound_bytes_per_second: int | None
    limit_inbound_bytes_per_second: int | None
    limited_packets: int
    not_permitted_packets: int
    quota_bytes: int | None
    quota_used_bytes: int


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One peer. ``remote``, ``since_unix_seconds`` and ``link`` are null while it is not up.

    ``last_error`` is null unless an attempt to connect has failed since the last handshake.

    ``since_unix_seconds`` is when the link came up. ``last_handshake_unix_seconds`` is null when
    there was none, as on the unsealed wires. ``dropped_packets`` counts what was for the peer and
    did not go out, since it was not connected or does not read. ``inner_addresses`` are those of
    its allowed IPs that are a single host, the first four: where the peer is inside the tunnel.
    ``mac_address_count`` is how many Ethernet addresses were seen behind it in the last minutes,
    null where fastun does not switch; ``mac_addresses`` are the first four, each with its VLAN
    ("02:…:01 vlan 7") where it has one.
    ``expires_unix_seconds`` is when its access ends, null for never.
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
    last_error: LastError | None = None
    mac_address_count: int | None = None
    mac_addresses: list[str] = []
    expires_unix_seconds: int | None = None
    terms: Terms | None = None


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to links since the start; ``reconnects``: of peers that had one before.

    ``refused_handshakes`` are those of fastun_handshakes_total that are not ok, and those for
    another public key than ours.
    """

    established: int
    reconnects: int
    refused: int
    hello_failures: int
    refused_handshakes: int = 0


class DnsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The DNS of a tunnel. ``manager`` has it: systemd-resolved, resolvconf or /etc/resolv.conf.

    ``is_checked`` is true once the servers were asked; ``fault`` says why names are not looked up
    as they should be, empty where they are.
    """

    servers: list[str]
    domains: list[str]
    manager: str
    is_checked: bool
    fault: str


class ForwardStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What this host forwards from and to its device, as configured.

    ``masquerade`` may be names of interfaces; ``to`` is empty for all networks. ``obstacles`` are
    what keeps packets from passing, each with the command that helps.
    """

    masquerade: bool | list[str]
    peers: bool
    to: list[str]
    obstacles: list[str]


class FleetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet that a gateway belongs to: its directory, and the gateway's name there.

    ``fault`` says why changes of the directory do not reach this gateway, empty where they do;
    peers are those of ``looked_unix_seconds``, 0 for never since the start. ``left_out`` peers
    break a rule; of some, ``why_left_out`` says which. ``confinement`` is that of the process that
    follows the directory, null before there is one.
    """

    directory: str
    name: str
    fault: str
    looked_unix_seconds: float
    left_out: int
    why_left_out: list[str]
    confinement: Confinement | None = None


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a client's endpoint; ``address`` is empty while its name has none.

    ``state``: "used", where the link leads; "ready"; "silent", after it was tried in vain, or
    "drained", after the server there has asked to be left: tried last until ``until_unix_seconds``;
    "unresolved".
    """

    endpoint: str
    address: str
    state: str
    until_unix_seconds: float


class DrainStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that is drained: it ends at ``until_unix_seconds`` or when no peer is connected.

    ``before`` peers were connected when that began, and ``connected`` are. Of these ``staying``
    have no other endpoint, and ``unaware`` cannot be asked to go: an older version, or WireGuard.
    """

    until_unix_seconds: float
    before: int
    connected: int
    staying: int
    unaware: int


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers of a gateway are confined to, and in ``gateway`` what it is itself.

    ``user`` is the number of theirs. ``landlock`` is the version of Landlock's interface, 0 where
    the kernel has none. ``lacks`` is what could not be done, each with the reason.
    """

    user: int
    seccomp: bool
    landlock: int
    lacks: list[str]
    gateway: Confinement | None = None


class HostStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is around a tunnel, its host and its fleet: a part of its status.

    ``not_ready`` says why traffic cannot pass, as /readyz does: empty where it can, null of an
    older version's gateway. ``device_fault`` says why the host is not as the device needs it, empty
    where it is.
    ``host_repairs`` counts what others had removed and was made again, by kind. ``forward`` is null
    where nothing is forwarded. ``kill_switch`` says what may leave the host beside the tunnel: all,
    nothing, or what goes to private networks that it is in. ``dns`` is null where none is set.
    ``fleet`` is null where the peer directory is the gateway's own, ``drain`` where it is not
    drained. ``endpoints`` are those of a client that has several, or several addresses.
    ``host_pid`` is the process that changes the host, null of an older version's gateway.
    """

    host_pid: int | None = None
    not_ready: str | None = None
    device_fault: str = ""
    host_repairs: dict[str, int] = {}
    forward: ForwardStatus | None = None
    kill_switch: KillSwitch = "off"
    dns: DnsStatus | None = None
    fleet: FleetStatus | None = None
    drain: DrainStatus | None = None
    endpoints: list[EndpointStatus] = []


class Status(HostStatus, frozen=True, kw_only=True):
    """A gateway. ``listen`` is empty for connect, ``endpoint`` null for serve.

    ``state_dir`` has the peer directory, null where there is none.
    ``metrics`` is null where it is off, ``public_key`` on a wire without keys. ``peers`` are all
    that may connect, connected or not. The configuration was read at ``configured_unix_seconds``;
    ``reload_error`` says why not what was read later, empty where nothing was.
    ``confinement`` is that of the workers, null until one has started.
    """

    version: str
    pid: int
    role: Role
    interface: str
    mode: Mode
    wire: str
    addresses: list[str]
    mtu_bytes: int
    started_unix_seconds: float
    configured_unix_seconds: float = 0
    reload_error: str = ""
    listen: list[str]
    endpoint: str | None
    metrics: str | None
    state_dir: str | None = None
    public_key: str | None = None
    peers: list[PeerStatus]
    links: Links
    lanes: list[LaneStatus]
    confinement: Confinement | None = None
