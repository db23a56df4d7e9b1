"""The gateway: the supervising process of ``fastun serve`` and ``fastun connect``.

    device (kernel) --fds--> lanes (four workers, two rings each) <--fds-- connections, UDP sockets

The gateway starts the lanes and makes links: ``serve`` accepts connections, ``connect`` dials, both
do the handshake and hand the socket to a lane; on UDP handshakes begin from either side. It then
keeps sessions and workers going until it is asked to stop or cannot go on. No packet passes through
here. reports.py acts on what the workers report; run.py makes device and gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence

from fastun import ending, log
from fastun.config.settings import Settings
from fastun.gateway.dns_checks import dns_checks
from fastun.gateway.fleet_watch import FleetWatch
from fastun.gateway.handshaker import handshaker_for
from fastun.gateway.lane_plan import plan_of
from fastun.gateway.late_networks import LateNetworks
from fastun.gateway.life import Life
from fastun.gateway.link_tasks import link_tasks, moves_of
from fastun.gateway.outer_endpoints import OuterEndpoints
from fastun.gateway.peer_sync import PeerSync
from fastun.gateway.peer_watch import PeerWatch
from fastun.gateway.pushed_settings import PushedSettings
from fastun.gateway.quiet import Quiet
from fastun.gateway.reports import Interface, Reports, Sessions
from fastun.gateway.supplies import Supplies
from fastun.gateway.tap_tasks import tap_tasks
from fastun.host.dns.name_lookup import NameLookup
from fastun.host.process.gateway_device import GatewayDevice
from fastun.host.process.gateway_kill_switch import GatewayKillSwitch
from fastun.host.routing import full_tunnel
from fastun.host.routing.route_lookup import RouteLookup
from fastun.lane.lanes import Lanes
from fastun.lane.template import Template
from fastun.library_errors import Restraint
from fastun.link import hello
from fastun.link.attempts import Attempts
from fastun.link.datagram.sessions import DatagramSessions
from fastun.link.datagram.sockets import UdpSockets, open_for
from fastun.link.draining import Draining
from fastun.link.ended import Ended
from fastun.link.endpoint_health import EndpointHealth
from fastun.link.endpoint_watch import EndpointWatch
from fastun.link.established import Established
from fastun.link.inside import Inside
from fastun.link.key_exchange import SessionCounts
from fastun.link.listening import Listening
from fastun.link.local_end import LocalEnd
from fastun.link.names import Names
from fastun.link.outside import Outside
from fastun.link.peer_lanes import has_one_lane
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.link.push_updates import PushUpdates
from fastun.link.stream.acceptor import ConnectionCounts
from fastun.link.stream.handshake import SealedHandshaker
from fastun.link.stream.sessions import StreamSessions
from fastun.link.table import Link, LinkTable
from fastun.pace import PACE
from fastun.peers.peer import Peer
from fastun.session.keys import format_key
from fastun.session.timer_constants import TimerConstants
from fastun.threads import DaemonThreads

# From the stop request until device and workers are gone: usually a tenth of a second, at most the
# grace of worker_process.py if a worker hangs. After that the host is restored without waiting.
LOOP_END_LIMIT_S = 4.0


# What shows a running gateway to others for as long as its context lasts (run.py). It gives what is
# to be called on SIGHUP that is not a terminal's.
Observed = Callable[["Gateway"], contextlib.AbstractAsyncContextManager[Callable[[], None]]]


class Gateway:
    """One running tunnel end. Everything but reading attributes happens on the event loop."""

    def __init__(
        self,
        settings: Settings,
        device: GatewayDevice,
        constants: TimerConstants,
        *,
        template: Template,
        kill_switch: GatewayKillSwitch,
        supplies: Supplies,
    ) -> None:
        """Prepare; device, kill switch, and ``template``, which forks, stay the caller's."""
        self.settings = settings
        self.device = device
        self.started = time.time()
        self.counts = ConnectionCounts()
        spreads = settings.role == "serve"
        self.lanes = Lanes(plan_of(settings, device), device.fds, template, spreads=spreads)
        self.links = LinkTable(
            self.lanes, hello.format_without_peer(settings), dials=settings.role == "connect"
        )
        self.peer_slots = PeerSlots(
            self.lanes,
            self._on_removed,
            lambda slot: slot in self.links.by_slot,
            self._on_changed,
        )
        self.peer_sync = PeerSync(settings, self.peer_slots, supplies.peers)
        if settings.role == "serve" and settings.fleet is not None:
            self.peer_sync.fleet = FleetWatch(settings.fleet, supplies.start_fleet)
        self.pushed_settings = PushedSettings(
            settings, device, self.peer_slots.push_keepalive, self.outer.addresses
        )
        self.moves = moves_of(self)
        self.push_updates = PushUpdates(
            self.links,
            self.peer_sync.push_to if settings.role == "serve" else None,
            self.pushed_settings.take,
        )
        device.inner_mtu.subscribe(self._clamp_mss)
        self.handshaker = handshaker_for(
            settings, device.offload_max, self.peer_slots, self.peer_sync, supplies.files
        )
        self.session_counts = SessionCounts()
        allow = lambda: kill_switch.allow_lookups if kill_switch.is_on else None  # noqa: E731
        own_dns = lambda: device.name_servers.state.servers  # noqa: E731
        sockets = supplies.sockets
        lookup = NameLookup(
            settings.fwmark, device.index, device.dns_before, own_dns, allow, sockets=sockets
        )
        inside = Inside(device.index, settings.interface, RouteLookup(settings.fwmark))
        inside.subscribe(self.pushed_settings.ask)
        attempts = Attempts(self.links.by_slot, inside.described_way, self.handshaker.fingerprint())
        names = Names(lookup, self.outer.place)
        health = EndpointHealth(self.peer_sync.own.public)
        self.outside = Outside(names, inside, sockets, attempts, health, kill_switch)
        self.listening = Listening(
            settings.listen if settings.role == "serve" else (),
            self.outside.names,
            self._take_udp,
            self._leave_udp,
            sockets,
        )
        self._endpoint_watch = EndpointWatch(self.links, self.outside.inside)
        self.sessions: StreamSessions | None = None
        self.datagrams: DatagramSessions | None = None
        self.sockets = UdpSockets((), offload=False)
        self._local_end = functools.partial(LocalEnd, constants=constants, files=supplies.files)

    @property
    def outer(self) -> OuterEndpoints:
        """Where its own packets go at the moment."""
        return OuterEndpoints(self)

    # -- life ---------------------------------------------------------------------------------

    async def run(self, asked: socket.socket, observed: Observed) -> None:
        """Run until fastun is asked to stop, when ``asked`` becomes readable (ending.py).

        ``observed`` is entered first and left last. Raises FastunError when it cannot go on.
        """
        asyncio.get_running_loop().set_default_executor(DaemonThreads())
        asyncio.get_running_loop().set_exception_handler(Restraint())
        life = Life()
        life.end_when_asked(asked)
        async with contextlib.AsyncExitStack() as stack:
            try:
                await self._start(stack, observed, life)
                await life.wait()
            finally:  # before anything is taken down
                ending.ask("a failure")

    async def _start(
        self, stack: contextlib.AsyncExitStack, observed: Observed, life: Life
    ) -> None:
        self.device.follow(life.fail)
        if isinstance(self.moves, Draining):
            self.moves.on_end = life.finish
        stack.callback(self.outside.inside.close)
        stack.callback(self.outside.names.close)
        life.on_hang_up = await stack.enter_async_context(observed(self))
        # Before a port is open, and before the lane, whose workers begin with all peers.
        stack.enter_context(self.peer_sync)
        self._make_sessions()
        stack.callback(self.sockets.close)
        stack.callback(self.listening.close)
        self.listening.bind_known()
        if self.datagrams is not None:
            self.datagrams.listen()
            stack.callback(self.datagrams.close)
        await stack.enter_async_context(self._running_lanes(life))
        quiet = Quiet(self)
        stack.callback(quiet.end)
        watching = (
            *PeerWatch(self).tasks(quiet),
            self._watch_sessions(quiet),
            self.lanes.watch.run(),
            self.pushed_settings.run(),
            self._endpoint_watch.run(),
            self.device.watch(),
            LateNetworks(self.device, self.peer_sync, self.push_updates).run(),
            *dns_checks(self.settings, self.device, self.links.by_slot),
            self.outer.run(),
            self.moves.run(),
        )
        # Before link_tasks() begins sessions, each a task: the log begins with "up".
        await stack.enter_async_context(life.running(self._say_up()))
        for work in (*link_tasks(self), *watching, *tap_tasks(self.device, self.lanes.first)):
            await stack.enter_async_context(life.running(work))

    async def _say_up(self) -> None:
        await self.listening.all_bound.wait()
        log.get("gateway").info(
            "up",
            interface=self.settings.interface,
            addresses=" ".join(map(str, self.settings.addresses)) or "none",
            wire=self.settings.wire,
            **self._own_key(),
        )
        for line in full_tunnel.not_routed(self.settings):
            log.get("gateway").warning(line)
        for line in self.peer_sync.first_steps():
            log.get("gateway").info(line)

    def _own_key(self) -> dict[str, str]:
        if self.settings.wire != "wireguard":
            return {}
        return {"public_key": format_key(self.peer_sync.own.public)}

    @contextlib.asynccontextmanager
    async def _running_lanes(self, life: Life) -> AsyncIterator[None]:
        try:
            self.lanes.start(self._reports(life))
            yield
        finally:
            if self.datagrams is not None:
                self.datagrams.say_goodbye()
            self.links.end_all("stopping")
            await self.lanes.stop()

    def _reports(self, life: Life) -> Reports:
        sessions = (
            None
            if self.sessions is None
            else Sessions(self.sessions, self.datagrams, self.push_updates, self.moves)
        )
        return Reports(
            Interface(self.settings.interface, self.device.fds[0]),
            self.peer_slots,
            self.links,
            sessions,
            on_link_writer_death=self._endpoint_watch.on_link_writer_death,
            on_failure=life.fail,
        )

    # -- links --------------------------------------------------------------------------------

    def _make_sessions(self) -> None:
        """Prepare what the wireguard wire needs. Raises RuntimeFailure: a port that is in use.

        A serving side gets its sockets after this.
        """
        if not isinstance(self.handshaker, SealedHandshaker):
            return
        self.handshaker.exchange.admits = self.moves.admits
        end = self._local_end(
            settings=self.settings,
            lane=self.lanes.udp,
            links=self.links,
            exchange=self.handshaker.exchange,
            outside=self.outside,
            inner_mtu=self.device.inner_mtu,
            counts=self.session_counts,
        )
        self.sessions = StreamSessions(end)
        self.sockets = open_for(self.settings, self.outside.inside, self.outside.sockets)
        listen = self.settings.listen if self.settings.role == "serve" else ()
        if self.sockets.all() or any(endpoint.scheme == "udp" for endpoint in listen):
            self.datagrams = DatagramSessions(end, self.sockets, self.pushed_settings.take)

    def _take_udp(self, bound: socket.socket) -> None:
        assert self.datagrams is not None  # noqa: S101 (one that listens on UDP has these)
        self.datagrams.passing.add(bound)

    async def _leave_udp(self, bounds: Sequence[socket.socket]) -> None:
        if self.datagrams is not None:
            await self.datagrams.passing.leave(bounds)

    def _clamp_mss(self, mtu: int) -> None:
        if self.settings.mss_clamp:
            self.lanes.clamp_mss(mtu)

    def has_room(self) -> bool:
        """Return whether a connection could become a link before its peer is known.

        An unsealed wire has one peer and does not know it: the first one that lives is it.
        """
        return self.sessions is not None or not self.links.by_slot

    def room_made(self) -> Ended | None:
        """Return what is set when the link that is in the way has ended."""
        return None if self.has_room() else self.links.by_slot[0].ended

    def establish(self, established: Established, connection: socket.socket, remote: str) -> Link:
        """Carry a connection whose handshake is complete. Raises HelloError or HandshakeError."""
        if not self.has_room():
            raise hello.HelloError("another client is connected")
        if self.peer_slots.by_slot.get(established.slotted.slot) is not established.slotted:
            raise hello.HelloError("the peer was removed meanwhile")
        attach = self.links.attach_stream if self.sessions is None else self.sessions.attach
        link = attach(established, connection, remote)
        if established.hello is not None and established.hello.push is not None:
            self.pushed_settings.take(established.slotted.peer.name, established.hello.push)
        return link

    def _on_removed(self, slotted: SlottedPeer) -> None:
        slot = slotted.slot
        self.links.leave(slot, "the peer was removed, or has another key")
        if self.datagrams is not None:
            self.datagrams.forget(slot)
        before = slotted.last_handshake
        slotted.last_handshake = self.session_counts.last_handshake.pop(slot, before)
        self.outside.attempts.forget(slot)

    def _on_changed(self, slotted: SlottedPeer, was: Peer) -> None:
        if slotted.peer.endpoints != was.endpoints and self.datagrams is not None:
            self.datagrams.try_endpoints(slotted.slot)
        if has_one_lane(slotted.peer.terms):
            self.links.keep_first(slotted.slot, "the peer has a rate limit now")
        self.push_updates.look_at(slotted.slot)  # its addresses, of its allowed IPs

    async def _watch_sessions(self, quiet: Quiet) -> None:
        while self.sessions is not None:
            self.sessions.tick()
            self.handshaker.watch(self.lanes.first)
            self.links.forget_old_keys()
            if self.datagrams is not None:
                self.datagrams.tick()
            await PACE.next_look(self.sessions.tick_s, quiet.left_s())


__all__ = ["Gateway", "Link"]
