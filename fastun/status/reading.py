"""The reply to ``fastun status``, made of a view of the gateway."""

from __future__ import annotations

import itertools
import os

from fastun import __version__
from fastun.endpoint import format_host_port
from fastun.fleet.messages import Confined as FleetConfined
from fastun.gateway.fleet_watch import FleetView
from fastun.gateway.view import (
    DeviceView,
    DnsView,
    GatewayView,
    LaneView,
    LinkView,
    PeerView,
    WorkerView,
)
from fastun.link import last_error as link_errors
from fastun.link.draining import DrainView
from fastun.native import Confined, MacAddress
from fastun.session.keys import format_key
from fastun.status.reply import (
    Confinement,
    Direction,
    DnsStatus,
    DrainStatus,
    EndpointStatus,
    FleetStatus,
    ForwardStatus,
    LaneStatus,
    LastError,
    Links,
    LinkStatus,
    PeerStatus,
    Stage,
    Status,
    Tcp,
    Terms,
)

# One of each IP version is usual; a reply with all peers has to stay within its bounds.
INNER_ADDRESSES_MAX = 4


def read_status(view: GatewayView) -> Status:
    """Return the status of a view that this process has taken of itself."""
    what = view.configuration
    return Status(
        version=__version__,
        pid=os.getpid(),
        role=what.role,
        interface=what.interface,
        mode=what.mode,
        wire=what.wire,
        public_key=None if what.public_key is None else format_key(what.public_key),
        addresses=list(what.addresses),
        mtu_bytes=view.device.mtu,
        device_fault=view.device.fault,
        host_repairs=view.device.repairs,
        host_pid=view.device.host_pid,
        not_ready=view.health.not_ready(),
        dns=None if view.device.dns is None else _dns(view.device.dns),
        forward=_forward(view.device),
        kill_switch=view.device.kill_switch,
        started_unix_seconds=what.started,
        configured_unix_seconds=what.read.since,
        reload_error=what.read.error,
        listen=list(what.listen),
        endpoint=what.endpoint,
        state_dir=what.state_dir,
        metrics=None if what.metrics is None else format_host_port(*what.metrics),
        peers=[_peer(peer) for peer in view.peers],
        links=Links(
            established=view.counts["established"],
            reconnects=view.counts["reconnects"],
            refused=view.counts["refused"],
            hello_failures=view.counts["failed_hellos"],
            refused_handshakes=_refused_handshakes(view),
        ),
        lanes=[_lane(lane) for lane in view.lanes],
        confinement=_confinement(view),
        fleet=None if view.fleet is None else _fleet(view.fleet),
        drain=None if view.drain is None else _drain(view.drain),
        endpoints=[
            EndpointStatus(
                endpoint=each.endpoint,
                address=each.address,
                state=each.state,
                until_unix_seconds=each.until,
            )
            for each in view.endpoints
        ],
    )


def _fleet(fleet: FleetView) -> FleetStatus:
    return FleetStatus(
        directory=fleet.directory,
        name=fleet.name,
        fault=fleet.fault,
        looked_unix_seconds=fleet.looked,
        left_out=fleet.left_out,
        why_left_out=list(fleet.why_left_out),
        confinement=None if fleet.confined is None else _as_said(fleet.confined),
    )


def _drain(drain: DrainView) -> DrainStatus:
    return DrainStatus(
        until_unix_seconds=drain.until,
        before=drain.n_before,
        connected=drain.n_connected,
        staying=drain.n_staying,
        unaware=drain.n_unaware,
    )


def _confinement(view: GatewayView) -> Confinement | None:
    """Return that of any worker: one kernel has all of them."""
    confined = next((each.confined for _, each in view.workers() if each.confined), None)
    if confined is None:
        return None
    own = view.configuration.confined
    return _as_said(confined, None if own is None else _as_said(own))


def _as_said(confined: Confined | FleetConfined, gateway: Confinement | None = None) -> Confinement:
    return Confinement(
        user=confined.user,
        seccomp=confined.has_filter,
        landlock=confined.landlock,
        lacks=list(confined.lacks),
        gateway=gateway,
    )


def _dns(dns: DnsView) -> DnsStatus:
    return DnsStatus(
        servers=list(dns.servers),
        domains=list(dns.domains),
        manager=dns.manager,
        is_checked=dns.is_checked,
        fault=dns.fault,
    )


def _forward(device: DeviceView) -> ForwardStatus | None:
    forward = device.forward
    if forward is None:
        return None
    names = forward.masquerade
    return ForwardStatus(
        masquerade=names if isinstance(names, bool) else list(names),
        peers=forward.peers,
        to=[str(network) for network in forward.to],
        obstacles=list(device.obstacles),
    )


def _refused_handshakes(view: GatewayView) -> int:
    if view.sessions is None:
        return 0
    in_gateway = sum(n for result, n in view.sessions.handshakes.items() if result != "ok")
    return in_gateway + sum(reader.drops["bad_mac1"] for reader in view.of_role("link-reader"))


def _peer(peer: PeerView) -> PeerStatus:
    link, counted = peer.link, peer.counted
    return PeerStatus(
        name=peer.name,
        inner_addresses=_inner_addresses(peer),
        up=link is not None,
        remote=None if link is None else link.remote,
        since_unix_seconds=None if link is None else link.since,
        last_handshake_unix_seconds=peer.last_handshake,
        receive_packets=counted["receive_packets"],
        receive_bytes=counted["receive_bytes"],
        transmit_packets=counted["transmit_packets"],
        transmit_bytes=counted["transmit_bytes"],
        dropped_packets=counted["dropped_packets"] + counted["no_session_packets"],
        link=None if link is None else _link(link),
        expires_unix_seconds=peer.terms.expires,
        terms=_terms(peer),
        last_error=None if peer.last_error is None else _last_error(peer.last_error),
        mac_address_count=None if peer.macs is None else peer.macs.total,
        mac_addresses=[] if peer.macs is None else [_mac(each) for each in peer.macs.first],
    )


def _mac(mac: MacAddress) -> str:
    return mac.address + (f" vlan {mac.vlan}" if mac.vlan else "")


def _terms(peer: PeerView) -> Terms:
    limit, quota, counted = peer.terms.limit, peer.terms.quota, peer.counted
    return Terms(
        limit_outbound_bytes_per_second=limit.outbound,
        limit_inbound_bytes_per_second=limit.inbound,
        limited_packets=counted["limited_outbound_packets"] + counted["limited_inbound_packets"],
        not_permitted_packets=counted["not_permitted_packets"],
        quota_bytes=None if quota is None else quota.month_bytes,
        quota_used_bytes=peer.quota_used_bytes,
    )


def _last_error(error: link_errors.LastError) -> LastError:
    return LastError(
        reason=error.reason.value,
        unix_seconds=error.since,
        first_unix_seconds=error.first,
        text=error.text,
    )


def _inner_addresses(peer: PeerView) -> list[str]:
    hosts = (network for network in peer.allowed_ips if network.num_addresses == 1)
    return [str(host.network_address) for host in itertools.islice(hosts, INNER_ADDRESSES_MAX)]


def _link(link: LinkView) -> LinkStatus:
    return LinkStatus(
        software=link.software,
        transport=link.transport,
        super_packets_outbound=link.super_outbound,
        super_packets_inbound=link.super_inbound,
        lanes=list(link.lanes),
        tcp=None
        if link.tcp is None
        else Tcp(
            rtt_seconds=link.tcp.rtt_s,
            retransmits=link.tcp.n_retransmits,
            notsent_bytes=link.tcp.notsent_bytes,
        ),
    )


def _lane(lane: LaneView) -> LaneStatus:
    return LaneStatus(
        lane=lane.index,
        hand_over=lane.waiting.hands_over,
        spin_microseconds=lane.waiting.spin_us,
        crossed_packets=lane.workers["tun-reader"].counters["crossed"],
        outbound=_direction(lane, "outbound", "tun-reader", "link-writer"),
        inbound=_direction(lane, "inbound", "link-reader", "tun-writer"),
    )


def _direction(lane: LaneView, name: str, reader: str, writer: str) -> Direction:
    ring = lane.rings[name]
    return Direction(
        reader=_stage(lane.workers[reader]),
        ring_used_bytes=ring.used_bytes,
        ring_capacity_bytes=ring.capacity_bytes,
        writer=_stage(lane.workers[writer]),
    )


def _stage(worker: WorkerView) -> Stage:
    return Stage(
        role=worker.role,  # type: ignore[arg-type]  # native.ROLES are these four
        pid=worker.pid,
        up=worker.is_ready,
        state=worker.state,
        restarts=worker.restarts,
        cpu_seconds=worker.cpu_seconds,
        packets=worker.counters["packets"],
        frames=worker.counters["frames"],
        bytes=worker.counters["bytes"],
        drops=worker.drops,
    )
