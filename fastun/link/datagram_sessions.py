"""The sessions of peers on UDP: WireGuard's handshakes, timers, cookies and roaming.

    link-reader --DatagramCame--> queue --> respond or conclude
                                                |
    link-reader <--AddReceivingKey--------------'
                --KeyAdded--> response sent, or tun-reader <--SetSendingKey; hello sent
                --KeyConfirmed, ControlCame--> tun-reader <--SetSendingKey, by the agreed cipher

Either side may begin. Handshakes and hellos are sent from here, on the socket that the workers use;
data never is. A handshake message costs some hundred microseconds, so the link-reader's gate asks
for cookies when too many come, and the others wait in a bounded queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from fastun import log
from fastun._native import GATEWAY_COUNTERS, Aead, UdpAddress, Wire
from fastun.channel import (
    ForgetReceivingKeys,
    LinkFormat,
    SendKeepalive,
    SetEndpoint,
    SetGateKeys,
)
from fastun.config import Settings
from fastun.lane import Lane
from fastun.link import hello
from fastun.link.correspondent import Correspondent, HelloExchange
from fastun.link.greeting import SealedGreeter
from fastun.link.handshake_queue import HandshakeQueue
from fastun.link.hello import HelloError, Push
from fastun.link.initiating import Initiator, endpoints_of
from fastun.link.key_installer import KeyInstaller
from fastun.link.observer import Observer
from fastun.link.path import PathWatch
from fastun.link.stream_sessions import TICK_S, SessionCounts
from fastun.link.table import LinkTable
from fastun.link.udp import UdpSockets
from fastun.roster import Member, Roster
from fastun.session import clock, cookies, messages, noise
from fastun.session.cookies import CookieJar
from fastun.session.keys import KeyPair
from fastun.session.messages import MessageType
from fastun.session.protocol import NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.timer_constants import TimerConstants
from fastun.session.timers import Action, PeerTimers
from fastun.session.transport import SessionKeys


class DatagramSessions:
    """All peers on UDP. Event loop only."""

    def __init__(  # noqa: PLR0917 (what it stands between)
        self,
        settings: Settings,
        lane: Lane,
        links: LinkTable,
        roster: Roster,
        greeter: SealedGreeter,
        sockets: UdpSockets,
        own: KeyPair,
        constants: TimerConstants,
        counts: SessionCounts,
        on_push: Callable[[Push], None],
    ) -> None:
        """Begin without any session. ``on_push`` is given what a server's hello pushes."""
        self.tick_s = min(TICK_S, constants.rekey_after_time_s / 10)
        self._settings = settings
        self._lane = lane
        self._links = links
        self._roster = roster
        self._greeter = greeter
        self._sockets = sockets
        self._own = own
        self._constants = constants
        self._counts = counts
        self._on_push = on_push
        self._installer = KeyInstaller(lane, constants)
        self._paths = PathWatch(lane, settings)
        self._queue = HandshakeQueue(greeter, self._take)
        self._by_index: dict[int, Correspondent] = {}  # handshakes that wait, by our index
        self._initiator = Initiator(greeter, sockets, self._by_index)
        self._by_slot: dict[int, Correspondent] = {}
        self._format = LinkFormat(
            wire=Wire.WIREGUARD,
            mode=hello.native_mode(settings),
            super_outbound=False,
            super_inbound=False,
            message_max=hello.SEALED_MESSAGE_MAX,
            is_datagram=True,
            mtu=settings.mtu,
        )
        self._log = log.get("session")

    # -- life ---------------------------------------------------------------------------------

    def tell_worker(self, role: str) -> None:
        """Tell a fresh worker of the sockets and where the peers are."""
        self._sockets.tell_worker(self._lane, role)
        if role != "link-reader":
            return
        public = self._own.public
        self._lane.send(role, SetGateKeys(cookies.mac1_key(public), cookies.cookie_key(public)))
        for correspondent in self._by_slot.values():
            self._say_endpoint(correspondent)

    def on_worker_death(self, role: str) -> None:
        """Drop what the worker knew, and begin anew with those who were connected.

        A link-writer knows nothing: its successor goes on where the ring's tail stands.
        """
        if role not in ("tun-reader", "link-reader"):
            return
        now_s = clock.boottime_s()
        for correspondent in self._by_slot.values():
            was_connected = correspondent.current is not None
            correspondent.lose_sessions()
            correspondent.link = None
            if was_connected:
                correspondent.timers.on_data_queued(now_s)
        asyncio.get_running_loop().call_soon(self.tick)  # when the successor can be told of keys

    def forget(self, slot: int) -> None:
        """Forget a peer that was removed or changed."""
        if self._by_slot.pop(slot, None) is not None:
            self._lane.send("link-reader", ForgetReceivingKeys(slot))

    def last_handshake_s(self, slot: int) -> float:
        """Return when the peer's last handshake here succeeded; CLOCK_BOOTTIME, 0 for never."""
        correspondent = self._by_slot.get(slot)
        return 0.0 if correspondent is None else correspondent.handshake_s

    def doubt(self, slot: int) -> None:
        """Try the path to the peer by a handshake, unless one was tried just now."""
        correspondent = self._by_slot.get(slot)
        if correspondent is not None and not correspondent.is_doubted:
            correspondent.is_doubted = True
            now_s = clock.boottime_s()
            correspondent.timers.on_path_doubted(now_s)
            self._do_due(correspondent, now_s)

    def _of_member(self, member: Member) -> Correspondent:
        correspondent = self._by_slot.get(member.slot)
        if correspondent is None or correspondent.member is not member:
            timers = PeerTimers(
                self._constants, persistent_keepalive_s=member.peer.keepalive_s or None
            )
            observer = Observer(self._lane.peers, member.slot, timers)
            observer.skip()
            jar = CookieJar(member.peer.public_key)
            correspondent = Correspondent(member, timers, observer, jar)
            self._by_slot[member.slot] = correspondent
        return correspondent

    # -- beginning ----------------------------------------------------------------------------

    def begin_all(self) -> None:
        """Want sessions with all peers that can be reached."""
        for slot in self._roster.by_slot:
            self.begin(slot)

    def begin(self, slot: int) -> None:
        """Want a session with the peer, if it can be reached."""
        member = self._roster.by_slot.get(slot)
        if member is None:
            return
        correspondent = self._by_slot.get(slot)
        if correspondent is not None or endpoints_of(member):
            correspondent, now_s = self._of_member(member), clock.boottime_s()
            correspondent.timers.on_data_queued(now_s)
            self._do_due(correspondent, now_s)

    # -- handshake messages -------------------------------------------------------------------

    def on_datagram(self, address: UdpAddress, message: bytes) -> None:
        """Take a handshake message of anybody."""
        self._queue.put(address, message)

    def _take(self, kind: MessageType, address: UdpAddress, message: bytes) -> None:
        match kind:
            case MessageType.INITIATION:
                self._respond(address, message)
            case MessageType.RESPONSE:
                self._conclude(address, message)
            case MessageType.COOKIE_REPLY:
                self._take_cookie(message)

    def _waiting(self, index: int) -> Correspondent:
        """Return whose handshake waits by this index. HandshakeError, counted."""
        correspondent = self._by_index.get(index)
        if correspondent is None or not correspondent.index_waits(index):
            with self._greeter.counting():
                raise HandshakeError(Refusal.UNKNOWN_INDEX)
        return correspondent

    def _take_cookie(self, message: bytes) -> None:
        correspondent = self._waiting(messages.receiver_of(message))
        with self._greeter.counting():
            correspondent.jar.consume_reply(message, clock.boottime_s())

    def _respond(self, address: UdpAddress, initiation: bytes) -> None:
        member, consumed = self._greeter.admit(initiation)
        if self._settings.mode == "tap" and member.slot != 0:
            # Ethernet frames name no peer: a TAP device has one, as on streams.
            raise HandshakeError(Refusal.UNKNOWN_PEER)
        correspondent = self._of_member(member)
        preshared_key = member.peer.preshared_key or NO_PRESHARED_KEY
        cookie = correspondent.jar.current(clock.boottime_s())
        response, keys = noise.respond(consumed, preshared_key, cookie=cookie)
        correspondent.jar.remember_sent(response)
        if correspondent.responding is not None:
            self._by_index.pop(correspondent.responding.local_index, None)
        self._by_index[keys.local_index] = correspondent
        correspondent.responding, correspondent.response = keys, response
        self._set_address(correspondent, address)
        self._installer.add_receiving(member.slot, keys, counter=0)

    def _conclude(self, address: UdpAddress, response: bytes) -> None:
        index = messages.receiver_of(response)
        correspondent = self._waiting(index)
        initiator = correspondent.initiator
        if initiator is None or initiator.local_index != index:
            with self._greeter.counting():
                raise HandshakeError(Refusal.UNKNOWN_INDEX)
        keys = self._greeter.conclude(correspondent.member, initiator, response)
        del self._by_index[index]
        correspondent.initiator, correspondent.concluding = None, keys
        self._set_address(correspondent, address)
        self._installer.add_receiving(correspondent.member.slot, keys, counter=0)

    # -- sessions -----------------------------------------------------------------------------

    def on_key_added(self, slot: int, index: int) -> None:
        """Go on with a handshake: the link-reader opens what names ``index``."""
        correspondent = self._by_slot.get(slot)
        if correspondent is None:
            return
        responding, concluding = correspondent.responding, correspondent.concluding
        if responding is not None and responding.local_index == index and correspondent.response:
            with contextlib.suppress(OSError):  # lost, as any datagram may be
                self._send(correspondent, correspondent.response)
            correspondent.response = None
            correspondent.timers.on_response_sent(clock.boottime_s())
        elif concluding is not None and concluding.local_index == index:
            correspondent.concluding = None
            self._use(correspondent, concluding)

    def on_key_confirmed(self, slot: int, index: int) -> None:
        """Seal under the keys that the initiator has proved to hold."""
        correspondent = self._by_slot.get(slot)
        keys = None if correspondent is None else correspondent.responding
        if correspondent is not None and keys is not None and keys.local_index == index:
            correspondent.responding = None
            self._by_index.pop(index, None)
            self._use(correspondent, keys)

    def _use(self, correspondent: Correspondent, keys: SessionKeys) -> None:
        slot = correspondent.member.slot
        is_rekey = correspondent.current is not None
        correspondent.current, correspondent.n_attempts = keys, 0
        correspondent.is_doubted = False
        correspondent.handshake_s = clock.boottime_s()
        correspondent.aead = Aead.CHACHA20_POLY1305  # until the peer's hello says more
        correspondent.hello = HelloExchange()
        self._attach(correspondent)
        self._installer.use_for_sending(slot, keys, correspondent.aead, GATEWAY_COUNTERS)
        now_s = clock.boottime_s()
        correspondent.timers.on_handshake_complete(now_s, is_initiator=keys.is_initiator)
        self._greeter.results["ok"] += 1
        self._counts.n_rekeys += is_rekey
        self._counts.last_handshake[slot] = time.time()
        if keys.is_initiator:
            self._say_hello(correspondent)  # the proof that the responder waits for
            correspondent.timers.on_keepalive_sent(now_s)

    def _attach(self, correspondent: Correspondent) -> None:
        """Make UDP the peer's link, if it is not."""
        slot = correspondent.member.slot
        link = self._links.by_slot.get(slot)
        if link is not None and link is correspondent.link:
            return
        correspondent.observer.skip()
        correspondent.link = self._links.attach_datagrams(
            correspondent.member, self._format, str(correspondent.address)
        )
        self._paths.measure(correspondent, clock.boottime_s())

    # -- hello --------------------------------------------------------------------------------

    def on_control(self, slot: int, index: int, message: bytes) -> None:
        """Take the peer's hello, which also confirms its keys; answer an initiator's.

        Or take a probe of the path, or an answer to one.
        """
        self.on_key_confirmed(slot, index)
        correspondent = self._by_slot.get(slot)
        keys = None if correspondent is None else correspondent.current
        if correspondent is None or keys is None or keys.local_index != index:
            return
        now_s = clock.boottime_s()
        if not correspondent.control_limit.admit(now_s):
            self._log.debug("too many control messages", peer=correspondent.member.peer.name)
            return
        if self._is_carried(correspondent) and self._paths.hear(correspondent, message, now_s):
            return
        try:
            theirs = hello.decode(message)
            _, aead = hello.agree(self._own_hello(correspondent), theirs, Wire.WIREGUARD)
        except HelloError as error:
            self._log.debug("hello refused", peer=correspondent.member.peer.name, error=str(error))
            return
        if not keys.is_initiator:
            self._say_hello(correspondent)
        if correspondent.hello.theirs is None:
            self._agree(correspondent, keys, theirs, aead)

    def _agree(
        self, correspondent: Correspondent, keys: SessionKeys, theirs: hello.Hello, aead: Aead
    ) -> None:
        correspondent.hello.theirs = theirs
        link = correspondent.link
        is_new = link is not None and link.peer_software != theirs.software
        if link is not None and is_new:
            link.peer_software = theirs.software
            self._log.info("hello", peer=link.peer_name, software=theirs.software)
        if aead is not correspondent.aead and self._is_carried(correspondent):
            correspondent.aead = aead
            self._installer.use_for_sending(correspondent.member.slot, keys, aead, GATEWAY_COUNTERS)
        if is_new and theirs.push is not None and self._settings.role == "connect":
            if theirs.push.keepalive and not correspondent.member.peer.keepalive_s:
                correspondent.timers.set_persistent_keepalive(
                    theirs.push.keepalive, clock.boottime_s()
                )
            self._on_push(theirs.push)

    def _own_hello(self, correspondent: Correspondent) -> hello.Hello:
        return self._greeter.hello_for(correspondent.member)

    def _say_hello(self, correspondent: Correspondent) -> None:
        exchange = correspondent.hello
        message = correspondent.seal_control(hello.encode(self._own_hello(correspondent)))
        if message is None:
            return
        exchange.n_sent += 1
        exchange.sent_s = clock.boottime_s()
        with contextlib.suppress(OSError):  # lost, as any datagram may be
            self._send(correspondent, message)

    # -- time ---------------------------------------------------------------------------------

    def tick(self) -> None:
        """Tell every timer what the workers have counted, and do what is due."""
        now_s = clock.boottime_s()
        for correspondent in list(self._by_slot.values()):
            if self._is_carried(correspondent):
                self._follow(correspondent)
                correspondent.observer.observe()
                self._paths.watch(correspondent, now_s)
                keys = correspondent.current
                if keys is not None and keys.is_initiator and correspondent.hello.is_due(now_s):
                    self._say_hello(correspondent)
            self._do_due(correspondent, now_s)

    def _do_due(self, correspondent: Correspondent, now_s: float) -> None:
        for action in correspondent.timers.due(now_s):
            self._do(correspondent, action)

    def on_path_too_narrow(self, slot: int) -> None:
        """Measure the path: a datagram did not fit it."""
        correspondent = self._by_slot.get(slot)
        if correspondent is not None:
            self._paths.measure(correspondent, clock.boottime_s())

    def _is_carried(self, correspondent: Correspondent) -> bool:
        link = self._links.by_slot.get(correspondent.member.slot)
        return link is not None and link is correspondent.link

    def _follow(self, correspondent: Correspondent) -> None:
        """Learn from the link-reader where the peer has roamed to."""
        address = self._lane.peers.endpoint(correspondent.member.slot)
        if address is None or address == correspondent.address:
            return
        if correspondent.link is not None and str(address) != correspondent.link.remote:
            correspondent.link.remote = str(address)
            self._log.info("roamed", peer=correspondent.member.peer.name, remote=str(address))
        correspondent.address = address

    def _do(self, correspondent: Correspondent, action: Action) -> None:
        slot, peer = correspondent.member.slot, correspondent.member.peer
        match action:
            case Action.INITIATE:
                self._initiator.initiate(correspondent)
            case Action.KEEPALIVE:
                self._lane.send("tun-reader", SendKeepalive(slot))
            case Action.EXPIRE_SESSION:
                correspondent.current = None
                if self._is_carried(correspondent):
                    self._links.end(slot, "no session: nothing was heard for too long")
            case Action.GIVE_UP:
                self._log.warning("no answer", peer=peer.name, remote=str(correspondent.address))
                if self._settings.role == "connect":  # somebody wants this tunnel
                    correspondent.timers.on_path_doubted(clock.boottime_s())
            case Action.ZERO_KEYS:
                correspondent.forget_sessions()
                # The peer may be on a stream by now, whose keys stand in the same place.
                if slot not in self._links.by_slot or self._is_carried(correspondent):
                    self._lane.send("link-reader", ForgetReceivingKeys(slot))

    # -- addresses ----------------------------------------------------------------------------

    def _set_address(self, correspondent: Correspondent, address: UdpAddress) -> None:
        """Take note of where an authentic handshake message came from."""
        correspondent.address = address
        self._say_endpoint(correspondent)

    def _say_endpoint(self, correspondent: Correspondent) -> None:
        if correspondent.address is not None:
            packed = correspondent.address.pack()
            self._lane.send("link-reader", SetEndpoint(correspondent.member.slot, packed))

    def _send(self, correspondent: Correspondent, message: bytes) -> None:
        if correspondent.address is not None:
            self._sockets.send(message, correspondent.address)
