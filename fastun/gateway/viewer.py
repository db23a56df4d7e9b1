"""Takes views of a running gateway (view.py).

This is the only place that knows where in the gateway each value is. It runs in the threads of
its callers: it reads shared memory, the kernel, and plain attributes that the event loop
replaces rather than changes. Neither the loop nor a worker takes part, and none is waited for.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, structs

from fastun import native
from fastun.gateway import device_view, endpoint_view, privileges
from fastun.gateway.lane_memory import LaneMemory
from fastun.gateway.view import (
    Configuration,
    GatewayView,
    Health,
    LinkView,
    Macs,
    PathCounts,
    PeerView,
    ReadFile,
    SessionCounts,
    ViewClosedError,
)
from fastun.gateway.worker_state import Backpressure
from fastun.host.socket_state import SocketState, socket_state
from fastun.link.datagram.path_mtu import HINT_RESULTS, NARROWING_CAUSES
from fastun.link.peer_slots import NO_SLOT
from fastun.link.stream.handshake import SealedHandshaker
from fastun.native import (
    PEER_FIELDS,
    MacTable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.config.settings import Settings
    from fastun.gateway.peer_sync import PeerSync
    from fastun.host.process.gateway_device import GatewayDevice
    from fastun.lane.lanes import Lanes
    from fastun.link.datagram.sessions import DatagramSessions
    from fastun.link.datagram.sockets import UdpSockets
    from fastun.link.draining import Draining, DrainView
    from fastun.link.key_exchange import SessionCounts as CountedSessions
    from fastun.link.leaving import Leaving
    from fastun.link.listening import Listening
    from fastun.link.outside import Outside
    from fastun.link.peer_slots import PeerSlots, SlottedPeer
    from fastun.link.stream.handshake import Handshaker
    from fastun.link.table import Link, LinkTable


# Of a peer's Ethernet addresses; a reply with all peers has to stay within its bounds.
MACS_SHOWN_MAX = 4


class Running(Protocol):
    """What is read of a gateway: gateway.Gateway, which is above this module."""

    settings: Settings
    device: GatewayDevice
    lanes: Lanes
    links: LinkTable
    peer_slots: PeerSlots
    peer_sync: PeerSync
    handshaker: Handshaker
    sockets: UdpSockets
    listening: Listening
    outside: Outside
    datagrams: DatagramSessions | None
    moves: Draining | Leaving
    session_counts: CountedSessions
    started: float

    @property
    def counts(self) -> Struct:
        """A struct whose fields are counts since the start."""


class Viewer:
    """Takes views of one gateway. Any thread."""

    def __init__(self, gateway: Running) -> None:
        """Map the lanes' shared memory once more: the lanes unmap their own when they stop."""
        self._gateway = gateway
        self.read = ReadFile(gateway.started)  # reload.py replaces it
        lanes = gateway.lanes
        self._lanes = tuple(LaneMemory(lane, lanes.watch) for lane in lanes.all)
        switch = lanes.first.switch
        self._macs = None if switch is None else MacTable.attach(switch.macs.fd)
        self._lock = threading.Lock()  # so that close() does not unmap what is being read
        self._is_closed = False

    def note_reload(self, error: str) -> None:
        """Take note of a reload, whose error is empty where it has succeeded."""
        self.read = ReadFile(self.read.since if error else time.time(), error)

    def view(self) -> GatewayView:
        """Return the gateway as it is now. Raises ViewClosedError."""
        with self._lock:
            if self._is_closed:
                raise ViewClosedError
            return self._view()

    def health(self) -> Health:
        """Return what a probe asks."""
        gateway = self._gateway
        workers = gateway.lanes.workers()
        return Health(
            workers_down=tuple(worker.name for worker in workers if not worker.is_ready),
            is_linked=bool(gateway.links.by_slot),
            needs_link=gateway.settings.role == "connect",
            waits_for=gateway.listening.waits_for(),
            device_fault=gateway.device.fault,
            dns_fault=gateway.device.name_servers.state.fault,
            draining=_draining(gateway.moves.view),
        )

    def close(self) -> None:
        """Unmap, once no view is being taken."""
        with self._lock:
            self._is_closed = True
            for lane in self._lanes:
                lane.close()
            if self._macs is not None:
                self._macs.close()

    def _view(self) -> GatewayView:
        gateway = self._gateway
        links = dict(gateway.links.by_slot)
        views = {
            slot: _link(link, gateway.links.of_peers.lanes_of(slot)) for slot, link in links.items()
        }
        udp_sockets = _udp_sockets(gateway)
        sockets = [*(view.socket for view in views.values() if view.socket), *udp_sockets]
        around = Backpressure(
            device_has_frames=gateway.device.has_frames(),
            links_have_bytes=any(state.receive_queue_bytes > 0 for state in sockets),
            links_have_room=_have_room(gateway, list(links.values())),
        )
        return GatewayView(
            configuration=_configuration(gateway, self.read),
            device=device_view.read(gateway.device, gateway.settings.forward),
            peers=tuple(
                self._peer(slotted, views.get(slot)) for slot, slotted in _peers(gateway.peer_slots)
            ),
            lanes=tuple(lane.view(around) for lane in self._lanes),
            udp_sockets=udp_sockets,
            counts=_counts(gateway),
            sessions=_session_counts(gateway),
            paths=_path_counts(gateway.datagrams),
            health=self.health(),
            fleet=None if (fleet := gateway.peer_sync.fleet) is None else fleet.view(),
            drain=gateway.moves.view,
            endpoints=endpoint_view.read(gateway),
        )

    def _peer(self, slotted: SlottedPeer, link: LinkView | None) -> PeerView:
        slot, before = slotted.slot, slotted.counted
        counted = {field: before.get(field, 0) for field in PEER_FIELDS}
        for lane in self._lanes if slot != NO_SLOT else ():
            counted = {field: n + lane.peers.read(slot, field) for field, n in counted.items()}
        last_handshake = self._gateway.session_counts.last_handshake.get(slot)
        return PeerView(
            name=slotted.peer.name,
            allowed_ips=slotted.peer.allowed_ips,
            terms=slotted.peer.terms,
            quota_used_bytes=slotted.quota_used_bytes,
            counted=counted,
            last_handshake=last_handshake or slotted.last_handshake,
            link=link,
            last_error=slotted.errors.last,
            errors=slotted.errors.counts,
            macs=None if self._macs is None else Macs(*self._macs.behind(slot, MACS_SHOWN_MAX)),
        )


def _peers(peer_slots: PeerSlots) -> Iterator[tuple[int, SlottedPeer]]:
    """Yield all peers, those in slots first. One that changes between the two is once enough."""
    by_slot, absent = peer_slots.by_slot, tuple(peer_slots.absent.values())
    yield from by_slot.items()
    seen = {slotted.peer.public_key for slotted in by_slot.values()} if absent else set()
    for slotted in absent:
        if slotted.peer.public_key not in seen:
            yield NO_SLOT, slotted


def _configuration(gateway: Running, read: ReadFile) -> Configuration:
    settings = gateway.settings
    return Configuration(
        role=settings.role,
        interface=settings.interface,
        mode=settings.mode,
        wire=settings.wire,
        public_key=gateway.peer_sync.own.public if settings.wire == "wireguard" else None,
        addresses=tuple(map(str, settings.addresses)),
        listen=tuple(map(str, settings.listen)) if settings.role == "serve" else (),
        endpoint=str(settings.endpoint) if settings.role == "connect" else None,
        metrics=settings.metrics,
        state_dir=_state_dir(settings),
        started=gateway.started,
        read=read,
        confined=privileges.given_up(),
    )


def _state_dir(settings: Settings) -> str | None:
    has_directory = settings.role == "serve" and settings.wire == "wireguard"
    return str(settings.state_dir.absolute()) if has_directory else None


def _draining(drain: DrainView | None) -> str:
    return "" if drain is None else f"draining, {drain.n_connected} of {drain.n_before} peers left"


def _link(link: Link, lanes: tuple[int, ...]) -> LinkView:
    tcp, state = None, None
    if link.connection is not None:
        with contextlib.suppress(OSError):  # ended since
            tcp = native.tcp_info(link.connection)
            state = socket_state(link.connection)
    return LinkView(
        id=link.id,
        transport=link.transport,
        remote=link.remote,
        software=link.peer_software,
        super_outbound=link.link_format.super_outbound,
        super_inbound=link.link_format.super_inbound,
        path_mtu=link.path_mtu,
        since=link.since,
        tcp=tcp,
        socket=state,
        lanes=lanes,
    )


def _udp_sockets(gateway: Running) -> tuple[SocketState, ...]:
    try:
        return tuple(socket_state(each) for each in gateway.sockets.all())
    except OSError:  # closed since: the gateway is stopping
        return ()


def _have_room(gateway: Running, links: list[Link]) -> bool:
    """Return whether the ring need not wait for a link: of several, none holds up the others."""
    if len(links) != 1:
        return len(links) > 1
    (link,) = links
    return _has_room(gateway.sockets.all() if link.connection is None else [link.connection])


def _has_room(sockets: Iterable[socket.socket]) -> bool:
    poll = select.poll()
    try:
        for each in sockets:
            poll.register(each, select.POLLOUT)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # ended since
        return True


def _counts(gateway: Running) -> dict[str, int]:
    links = gateway.links
    # All that the gateway counts, so that a new count needs no change here.
    return {
        "established": links.n_established,
        "reconnects": links.n_reconnects,
        **structs.asdict(gateway.counts),
    }


def _session_counts(gateway: Running) -> SessionCounts | None:
    handshaker = gateway.handshaker
    if not isinstance(handshaker, SealedHandshaker):
        return None
    return SessionCounts(dict(handshaker.exchange.results), gateway.session_counts.n_rekeys)


def _path_counts(datagrams: DatagramSessions | None) -> PathCounts | None:
    if datagrams is None:
        return None
    counts = datagrams.path_counts
    return PathCounts(
        narrowings={cause: counts.narrowings[cause] for cause in NARROWING_CAUSES},
        hints={result: counts.hints[result] for result in HINT_RESULTS},
    )
