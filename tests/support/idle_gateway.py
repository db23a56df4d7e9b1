"""A gateway that does nothing: all that a view is taken of, with a real lane without workers."""

from __future__ import annotations

import mmap
import socket
import struct
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from fastun.config.settings import Options, Role, Settings, load
from fastun.gateway.gateway import Gateway
from fastun.gateway.viewer import Viewer
from fastun.host.condition import Condition
from fastun.host.dns.state import NOTHING
from fastun.host.process.messages import HostNow
from fastun.lane.boot import LanePlan
from fastun.lane.lanes import Lanes
from fastun.lane.template import Template
from fastun.link import hello
from fastun.link.datagram import sockets as udp
from fastun.link.draining import Draining
from fastun.link.endpoint_health import EndpointHealth
from fastun.link.key_exchange import SessionCounts
from fastun.link.peer_slots import PeerSlots
from fastun.link.stream.acceptor import ConnectionCounts
from fastun.link.table import Link, LinkTable
from fastun.native import Mode, Wire
from fastun.peers.peer import Peer
from fastun.session.keys import KeyPair
from tests.support.known_names import KnownNames

if TYPE_CHECKING:
    from collections.abc import Iterator


def settings_for(role: Role = "serve", target: str | None = None, **options: object) -> Settings:
    return load(role, target, Options(wire="plain", insecure=True, **options))  # type: ignore[arg-type]


@contextmanager
def idle_gateway(settings: Settings | None = None, n_lanes: int = 1) -> Iterator[Gateway]:
    settings = settings or settings_for()
    lanes = Lanes(LanePlan(-1, Wire.PLAIN, Mode.TUN, holds=False), [-1] * n_lanes, Template())
    device = SimpleNamespace(
        name=settings.interface,
        fault="",
        host_pid=4711,
        mtu=1400,
        statistics=dict,
        has_frames=lambda: False,
        now=HostNow(index=1, repairs=Condition(settings.interface).repairs),
        name_servers=SimpleNamespace(state=NOTHING),
    )
    peer_slots = PeerSlots(lanes)
    peer_slots.replace([Peer(name=settings.peer_name, public_key=bytes(32))])
    links = LinkTable(lanes, hello.format_without_peer(settings))
    yield cast(
        "Gateway",
        SimpleNamespace(
            settings=settings,
            started=1.5,
            lanes=lanes,
            device=device,
            links=links,
            moves=Draining(cast("Any", SimpleNamespace(settings=settings, links=links))),
            peer_slots=peer_slots,
            peer_sync=SimpleNamespace(own=KeyPair(bytes(32), bytes(32)), fleet=None),
            handshaker=None,
            sockets=udp.UdpSockets((), offload=False),
            listening=SimpleNamespace(waits_for=tuple),
            outside=SimpleNamespace(
                kill_switch=None, names=KnownNames().names(), health=EndpointHealth()
            ),
            sessions=None,
            datagrams=None,
            session_counts=SessionCounts(),
            counts=ConnectionCounts(),
        ),
    )
    for lane in lanes.all:
        lane.stats.close()
        lane.peers.close()
        for ring in lane.rings.values():
            ring.close()


@contextmanager
def viewing(gateway: Gateway) -> Iterator[Viewer]:
    viewer = Viewer(gateway)
    try:
        yield viewer
    finally:
        viewer.close()


def peers_named(*names: str) -> list[Peer]:
    return [Peer(name=name, public_key=name.encode().ljust(32)) for name in names]


def have(gateway: Gateway, *peers: Peer) -> None:
    while not gateway.peer_slots.replace(peers):  # a slot that has just become free rests
        pass


def link_over(connection: object, link_id: int = 1, software: str = "test") -> Link:
    """All that a view has of a link."""
    fields = {
        "id": link_id,
        "connection": connection,
        "remote": "192.0.2.1:1",
        "peer_software": software,
        "transport": "tcp",
        "link_format": SimpleNamespace(super_outbound=True, super_inbound=True),
        "path_mtu": 0,
        "since": 2.5,
    }
    return cast("Link", SimpleNamespace(**fields))


def set_ready(gateway: Gateway, *, is_ready: bool = True) -> None:
    for worker in gateway.lanes.workers():
        worker.is_ready = is_ready


def write_field(gateway: Gateway, slot: int, field: str, value: int) -> None:
    """Write one of PEER_FIELDS, as a worker would; its place is found by trying."""
    table = gateway.lanes.first.peers
    with mmap.mmap(table.fd, 0) as memory:
        for place in range(0, len(memory), 8):
            (before,) = struct.unpack_from("=Q", memory, place)
            struct.pack_into("=Q", memory, place, value)
            if table.read(slot, field) == value:
                return
            struct.pack_into("=Q", memory, place, before)
    raise AssertionError(field)


def fill_ring(gateway: Gateway, direction: str, share: float) -> None:
    """Move the ring's head, as its producer would; its place is found by trying."""
    ring = gateway.lanes.first.rings[direction]
    wanted = int(ring.size_bytes * share)
    with mmap.mmap(ring.fd, 4096) as memory:
        for place in range(0, 4096, 8):
            (before,) = struct.unpack_from("=Q", memory, place)
            struct.pack_into("=Q", memory, place, wanted)
            if ring.used_bytes() == wanted:
                return
            struct.pack_into("=Q", memory, place, before)
    raise AssertionError(direction)


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        one = stack.enter_context(socket.create_connection(listener.getsockname()))
        other = stack.enter_context(listener.accept()[0])
        yield one, other


def fill(connection: socket.socket) -> None:
    """Send until neither socket has room."""
    connection.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            connection.send(bytes(65536))
