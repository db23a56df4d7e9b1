"""The sessions of peers on UDP: WireGuard's handshakes, timers, cookies and roaming.

    handshake (handshakes.py) --keys--> tun-reader <--SetSendingKey
                                                 hello (hellos.py)
                                                 tun-reader <--SetSendingKey, by the agreed cipher

Here is what becomes of keys, when something is due, and what a worker's death ends. Handshakes and
hellos are sent by the gateway, on the socket that the workers use; data never is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

from fastun import log
from fastun.config.push import Push
from fastun.lane.messages import ForgetReceivingKeys, SendKeepalive
from fastun.lane.worker_process import WorkerProcess
from fastun.link import hello
from fastun.link.datagram.address_race import endpoints_of
from fastun.link.datagram.fresh_worker import FreshWorkers
from fastun.link.datagram.goodbye import Goodbyes
from fastun.link.datagram.handshake_probe import HandshakeProbes
from fastun.link.datagram.handshakes import DatagramHandshakes
from fastun.link.datagram.hellos import DatagramHellos, ways_of
from fastun.link.datagram.path_listener import PathListener
from fastun.link.datagram.path_mtu import PathCounts, PathWatch
from fastun.link.datagram.peer import HelloExchange, UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.port_change import PortChange
from fastun.link.datagram.remembered import RememberedEndpoints
from fastun.link.datagram.silence_watch import SilenceWatch
from fastun.link.datagram.socket_passing import SocketPassing
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.datagram.source_pin import SourcePins
from fastun.link.key_installer import KeyInstaller
from fastun.link.local_end import LocalEnd
from fastun.link.traffic_observer import TICK_S
from fastun.native import UdpAddress
from fastun.session import clock
from fastun.session.timers import Action, PeerTimers
from fastun.session.transport import SessionKeys


class DatagramSessions:
    """All peers on UDP. Event loop only."""

    def __init__(
        self, end: LocalEnd, sockets: UdpSockets, on_push: Callable[[str, Push], None]
    ) -> None:
        """Begin without any session. ``on_push`` is called with the peer's name and its push."""
        self._settings = end.settings
        self._lane = end.lane
        self._links = end.links
        self._exchange = end.exchange
        self._end = end
        self._installer = KeyInstaller(end.lane, end.constants)
        self._paths = PathWatch(end.lane, end.settings, end.inner_mtu, None, sockets.maker)
        self._peers = UdpPeers(end, sockets)
        self._pins = SourcePins(end.outside.inside, self._peers, sockets)
        is_port_free = end.settings.role == "connect" and end.settings.udp_port is None
        self.passing = SocketPassing(end.lane, sockets, self._peers, self._listen_anew)
        self._fresh_workers = FreshWorkers(end, self._peers, self.passing, self._installer)
        self.silence = SilenceWatch(end.lane, self._peers, self._paths, self._doubt)
        self.ports = PortChange(self.passing, is_allowed=is_port_free)
        self._ways = ways_of(end, self._peers, self.passing)
        self._hellos = DatagramHellos(end, self._peers, self._installer, self._ways, on_push)
        self._goodbyes = Goodbyes(end, self._peers, self.begin, self.let_go)
        self._handshakes = DatagramHandshakes(end, self._peers, sockets, self._installer, self._use)
        self.remembered = RememberedEndpoints(end, self._peers, sockets, self._handshakes)
        end.inner_mtu.subscribe(self._follow_inner_mtu)
        self._listener: PathListener | None = None

    # -- life ---------------------------------------------------------------------------------

    def listen(self) -> None:
        """Listen for changes of our routes and for hints from routers, until ``close``."""
        self._listener = PathListener(
            self._paths, self._peers, self.passing.sockets, self._end.outside.attempts
        )

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()

    def say_goodbye(self) -> None:
        """Tell the peers that this side stops."""
        self._goodbyes.say_to_all()

    def _listen_anew(self) -> None:
        self._ways.follow_sockets()
        if self._listener is not None:  # it hears of the ports that there are
            before = self._listener
            self.listen()
            before.close()

    @property
    def probes(self) -> HandshakeProbes:
        """What asks whether a gateway answers."""
        return self._handshakes.probes

    @property
    def path_counts(self) -> PathCounts:
        """What happened to paths."""
        return self._paths.counts

    def tell_worker(self, worker: WorkerProcess) -> None:
        """Tell a fresh worker of the sockets and where the peers are."""
        self._fresh_workers.tell(worker)

    def tell_keys(self, worker: WorkerProcess) -> None:
        """Tell a fresh worker that knows the links of the sessions: they go on."""
        self._fresh_workers.tell_keys(worker)
        self._ways.tell_keys(worker)

    def forget(self, slot: int) -> None:
        """Forget a peer that was removed, or has another key."""
        self._goodbyes.say_to(slot)
        self.let_go(slot)

    def let_go(self, slot: int) -> None:
        """Forget the sessions of a peer that has one elsewhere, and where it was."""
        self._ways.forget(slot)
        if self._peers.forget(slot):
            self._lane.send("link-reader", ForgetReceivingKeys(slot))

    def addresses(self) -> set[IPv4Address | IPv6Address]:
        """Return where the peers are."""
        return {
            each.address.host for each in self._peers.by_slot.values() if each.address is not None
        }

    def last_handshake_s(self, slot: int) -> float:
        """Return when the peer's last handshake here succeeded; CLOCK_BOOTTIME, 0 for never."""
        udp_peer = self._peers.by_slot.get(slot)
        return 0.0 if udp_peer is None else udp_peer.handshake_s

    def doubt(self, slot: int) -> None:
        """Try the path to the peer by a handshake, unless one was tried just now."""
        udp_peer = self._peers.by_slot.get(slot)
        if udp_peer is not None and not udp_peer.liveness.is_doubted:
            self._doubt(udp_peer)

    def _doubt(self, udp_peer: UdpPeer) -> None:
        udp_peer.liveness.doubt(udp_peer.address)
        udp_peer.timers.on_path_doubted(clock.boottime_s())
        self._do_due(udp_peer, clock.boottime_s())

    # -- beginning ----------------------------------------------------------------------------

    def begin_all(self) -> None:
        """Want sessions with all peers that can be reached."""
        for slot in self._exchange.peer_slots.by_slot:
            self.begin(slot)

    def begin(self, slot: int) -> None:
        """Want a session with the peer, if it can be reached."""
        slotted = self._exchange.peer_slots.by_slot.get(slot)
        if slotted is None or not self._exchange.admits(slotted):
            return
        udp_peer = self._peers.by_slot.get(slot)
        if udp_peer is not None or endpoints_of(slotted):
            udp_peer, now_s = self._peers.at(slotted), clock.boottime_s()
            udp_peer.timers.on_data_queued(now_s)
            self._do_due(udp_peer, now_s)

    def try_endpoints(self, slot: int) -> None:
        """Try the endpoints that the peer has now; until one answers it stays where it is."""
        self.begin(slot)
        udp_peer = self._peers.by_slot.get(slot)
        if udp_peer is not None and endpoints_of(udp_peer.slotted):
            udp_peer.is_guess = True  # where it was heard is not tried first
            self._doubt(udp_peer)

    # -- handshakes ---------------------------------------------------------------------------

    def on_handshake(self, address: UdpAddress, message: bytes) -> None:
        """Process a handshake message, from any host."""
        self._handshakes.on_handshake(address, message)

    def on_key_added(self, slot: int, index: int) -> None:
        """Go on with a handshake: the link-reader opens what names ``index``."""
        self._handshakes.on_key_added(slot, index)
        self._ways.on_key_added(slot, index)

    def on_key_confirmed(self, slot: int, index: int) -> None:
        """Take what was sealed under new keys for the proof that the peer holds them."""
        self._handshakes.on_key_confirmed(slot, index)
        self._ways.on_key_confirmed(slot, index)

    # -- sessions -----------------------------------------------------------------------------

    def is_current(self, slot: int, index: int) -> bool:
        """Return whether the session in use is the one that has this index here."""
        udp_peer = self._peers.by_slot.get(slot)
        keys = None if udp_peer is None else udp_peer.current
        return keys is not None and keys.local_index == index

    def _use(self, udp_peer: UdpPeer, keys: SessionKeys, address: UdpAddress | None) -> None:
        if address is not None:
            self._goodbyes.move(udp_peer, keys, address)
        slot = udp_peer.slotted.slot
        is_rekey = udp_peer.current is not None
        udp_peer.current = keys
        now_s = clock.boottime_s()
        udp_peer.on_answer(now_s)
        self._end.outside.attempts.succeeded(slot, "udp")
        counter = self._lane.sending.begin(slot)
        udp_peer.hello = HelloExchange(counter, self._ways.new_indices(slot))
        self._attach(udp_peer)
        if keys.is_initiator:
            self._hellos.send(udp_peer)  # the proof that the responder waits for, before any data
        self._installer.use_for_sending(slot, keys, udp_peer.hello.aead, counter)
        self._links.of_peers.note_sealed(udp_peer.link, keys.remote_index)
        udp_peer.timers.on_handshake_complete(now_s, is_initiator=keys.is_initiator)
        self._exchange.succeeded(udp_peer.slotted)
        self._end.counts.n_rekeys += is_rekey
        self._end.counts.last_handshake[slot] = time.time()
        if keys.is_initiator:
            udp_peer.timers.on_keepalive_sent(now_s)  # the hello

    def _attach(self, udp_peer: UdpPeer) -> None:
        """Make UDP the peer's link, if it is not."""
        slot = udp_peer.slotted.slot
        link = self._links.by_slot.get(slot)
        if link is not None and link is udp_peer.link:
            return
        udp_peer.observer.skip()
        mode, mtu = hello.native_mode(self._settings), self._end.inner_mtu.bytes
        link_format = hello.format_of_datagrams(mode, mtu)
        udp_peer.link = self._links.attach_datagrams(
            udp_peer.slotted, link_format, str(udp_peer.address)
        )
        self._paths.measure(udp_peer, clock.boottime_s())

    # -- control messages ---------------------------------------------------------------------

    def on_control(self, slot: int, index: int, message: bytes) -> None:
        """Take a hello, which confirms the peer's keys; a probe or its answer; or a goodbye."""
        self.on_key_confirmed(slot, index)
        udp_peer = self._peers.by_slot.get(slot)
        keys = None if udp_peer is None else udp_peer.current
        if udp_peer is None or keys is None or keys.local_index != index:
            return
        now_s = clock.boottime_s()
        is_carried = self._peers.is_carried(udp_peer)
        if is_carried and self._paths.receive(udp_peer, message, now_s):
            return
        if is_carried and self._goodbyes.receive(udp_peer, message):
            return
        was_said = udp_peer.hello.theirs is not None
        self._hellos.receive(udp_peer, keys, message)
        if not was_said and udp_peer.hello.theirs is not None:
            self._paths.measure(udp_peer, now_s)  # what goes through it depends on the peer, too

    # -- time ---------------------------------------------------------------------------------

    def timers(self) -> Iterator[PeerTimers]:
        """Return those of all peers."""
        return self._peers.timers()

    def tick(self) -> None:
        """Give every timer what the workers have counted, and do what is due."""
        now_s = clock.boottime_s()
        is_due = self._listener is not None and self._listener.tick(now_s)
        for udp_peer in list(self._peers.by_slot.values()):
            if self._peers.is_carried(udp_peer):
                self._peers.follow(udp_peer)
                udp_peer.observer.observe()
                self.silence.look(udp_peer, now_s)
                self._paths.watch(udp_peer, now_s, is_due=is_due)
                keys = udp_peer.current
                if keys is not None and keys.is_initiator and udp_peer.hello.is_due(now_s):
                    self._hellos.send(udp_peer)
            if self._pins.watch(udp_peer, routes_changed=is_due) and udp_peer.is_in_use():
                udp_peer.timers.on_path_doubted(now_s)
            udp_peer.forget_expired(now_s)
            udp_peer.timers.set_persistent_keepalive(udp_peer.slotted.keepalive_s, now_s)
            self._do_due(udp_peer, now_s)
        self._ways.tick(now_s)

    def _keep_alive(self, udp_peer: UdpPeer, now_s: float) -> None:
        """Send a keepalive; after a silence a question in its place, which wants an answer."""
        slot, every_s = udp_peer.slotted.slot, udp_peer.slotted.keepalive_s
        heard_s = max(self._lane.peers.read(slot, "received_ns") / 1e9, udp_peer.handshake_s)
        is_silent = every_s is not None and now_s - heard_s >= every_s - TICK_S
        if is_silent and udp_peer.may_be_asked():
            self._paths.ask_for_life(udp_peer)
            udp_peer.timers.on_data_sent(now_s)
        else:
            self._lane.send("tun-reader", SendKeepalive(slot))

    def _do_due(self, udp_peer: UdpPeer, now_s: float) -> None:
        for action in udp_peer.timers.due(now_s):
            self._do(udp_peer, action)

    def on_path_too_narrow(self, slot: int) -> None:
        """Measure the path: a datagram did not fit it."""
        udp_peer = self._peers.by_slot.get(slot)
        if udp_peer is not None:
            self._paths.on_too_narrow(udp_peer, clock.boottime_s())

    def _follow_inner_mtu(self, _: int) -> None:
        """Measure all paths again: what goes through them may be longer or shorter now."""
        for udp_peer in self._peers.by_slot.values():
            if self._peers.is_carried(udp_peer):
                self._paths.measure(udp_peer, clock.boottime_s())

    def _do(self, udp_peer: UdpPeer, action: Action) -> None:
        slot = udp_peer.slotted.slot
        match action:
            case Action.INITIATE:
                self.ports.consider(udp_peer, self._peers.by_slot.values(), clock.boottime_s())
                self._handshakes.initiate(udp_peer)
            case Action.KEEPALIVE:
                self._keep_alive(udp_peer, clock.boottime_s())
            case Action.EXPIRE_SESSION:
                udp_peer.current = None
                if self._peers.is_carried(udp_peer):
                    self._links.end(slot, "no session: nothing was heard for too long")
            case Action.GIVE_UP:
                has_been_tried = udp_peer.address is not None  # else its name was waited for
                log.get("session").debug("no answer in time", peer=udp_peer.slotted.peer.name)
                # A client's tunnel is wanted at all times.
                if self._settings.role == "connect" or not has_been_tried:
                    udp_peer.timers.on_path_doubted(clock.boottime_s())
            case Action.ZERO_KEYS:
                self._peers.forget_handshakes(udp_peer)
                udp_peer.timers.on_sessions_dropped()
                # The peer may be on a stream by now, whose keys are in the same place.
                if slot not in self._links.by_slot or self._peers.is_carried(udp_peer):
                    self._lane.send("link-reader", ForgetReceivingKeys(slot))
                    self._ways.forget(slot)
                    udp_peer.opened = ()
