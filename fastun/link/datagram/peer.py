"""One peer on UDP: what is known of it between its messages.

WireGuard's sessions on UDP outlive addresses and silences, so all of this belongs to the peer, not
to a connection. Which keys are where:

    opened        what the link-reader opens with, the same and older ones; its successor gets them
    concluding    our initiation was answered; the link-reader is getting the keys to open with
    responding    we answered; the link-reader opens, and the peer has still to prove that it does
    current       what is sealed under now
"""

from __future__ import annotations

import msgspec

from fastun.host.routing.route_lookup import NO_WAY, Way
from fastun.link.datagram.hinted import HintedLimit, RecentCounters
from fastun.link.datagram.liveness import Liveness
from fastun.link.datagram.probe import PathSearch
from fastun.link.hello import Ability, Hello
from fastun.link.peer_slots import SlottedPeer
from fastun.link.table import Link
from fastun.link.traffic_observer import Observer
from fastun.native import RECEIVING_KEYS, Aead, Joins, SendingCounter, UdpAddress
from fastun.session import transport
from fastun.session.cookies import CookieJar
from fastun.session.noise import InitiatorState
from fastun.session.protocol import REJECT_AFTER_MESSAGES
from fastun.session.timers import PeerTimers
from fastun.session.transport import SessionKeys

# A peer that has not said hello to so many, a second apart, is plain WireGuard.
HELLOS_MAX = 5
HELLO_INTERVAL_S = 1.0


class HelloExchange(msgspec.Struct):
    """The hellos of one session, and what all is sealed by in it."""

    counter: SendingCounter | None = msgspec.field(default=None)
    ways: tuple[int, ...] = ()  # our indices in as many further lanes as this side has (ways.py)
    aead: Aead = Aead.CHACHA20_POLY1305  # until the peer's hello says more
    n_sent: int = 0
    sent_s: float = float("-inf")
    theirs: Hello | None = None
    is_refused: bool = False  # one of theirs was, which was said

    @property
    def answers_probes(self) -> bool:
        """Whether the peer has said that it does."""
        return self.theirs is not None and Ability.ANSWERS_PROBES in self.theirs.abilities

    @property
    def joins_pieces(self) -> Joins | None:
        """What the peer joins of pieces; None while it has not said."""
        if self.theirs is None:
            return None
        joins = Joins.NONE
        if Ability.JOINS_PIECES in self.theirs.abilities:
            joins |= Joins.FRAMES
        if Ability.JOINS_SUPER_PACKETS in self.theirs.abilities and "tcp" in self.theirs.offload:
            joins |= Joins.SUPER_PACKETS
        return joins

    def is_due(self, now_s: float) -> bool:
        """Return whether the initiator should say it again."""
        waits = self.theirs is None and now_s - self.sent_s >= HELLO_INTERVAL_S
        return waits and self.n_sent < HELLOS_MAX


class PeerPath(msgspec.Struct):
    """The path to a peer, as path_mtu.py has seen it. Times are CLOCK_BOOTTIME."""

    packet_max: int = 0  # the longest packet that fits it, the inner MTU at most; 0: unknown
    whole_max: int = 0  # longer packets may be fragmented by routers; 0: none may
    joins_pieces: Joins = Joins.NONE  # as the peer said last
    fragments_said: int = 0  # the packet_max for which it was said that frames go in fragments
    seen_s: float = float("-inf")
    narrow_seen_s: float = float("-inf")  # because a datagram did not fit
    address: UdpAddress | None = None  # of the peer, when the path was seen
    search: PathSearch = msgspec.field(default_factory=PathSearch)
    hinted: HintedLimit = msgspec.field(default_factory=HintedLimit)
    recent: RecentCounters = msgspec.field(default_factory=RecentCounters)  # of what was sent


class SourcePin(msgspec.Struct):
    """The way to a peer and our address on it, as source_pin.py saw them last."""

    address: UdpAddress | None = None
    way: Way = NO_WAY
    # Our address that was dropped as source, and its interface: datagrams may still arrive there.
    retired: tuple[object, int] | None = None
    n_responses: int = 0  # sent since the last answer


class PeerPort(msgspec.Struct, gc=False):
    """Our source port towards a peer, as port_change.py has it. Times are CLOCK_BOOTTIME."""

    socket_index: int | None = None  # the socket that it is tried by; None: any that suits
    n_silent: int = 0  # initiations sent since the last answer
    changed_s: float = float("-inf")
    is_said: bool = False  # the change, since the last answer


class Concluding(msgspec.Struct):
    """Keys of a handshake that was answered, and from where."""

    keys: SessionKeys
    address: UdpAddress


class Response(msgspec.Struct):
    """A response, and where it was asked for."""

    message: bytes
    address: UdpAddress


class OpenedKeys(msgspec.Struct):
    """Keys that the link-reader opens with, or is to."""

    keys: SessionKeys
    is_added: bool = False  # it has said so


class UdpPeer(msgspec.Struct):
    """A peer on UDP. ``address`` is where it was last heard, or is tried until it is."""

    slotted: SlottedPeer
    timers: PeerTimers
    observer: Observer
    jar: CookieJar
    address: UdpAddress | None = None
    is_guess: bool = False  # ``address`` is only tried: nothing authentic came from there
    initiator: InitiatorState | None = msgspec.field(default=None)
    n_attempts: int = 0  # initiations since the last response
    concluding: Concluding | None = msgspec.field(default=None)
    responding: SessionKeys | None = msgspec.field(default=None)
    response: Response | None = None  # to be sent when the link-reader opens under `responding`
    current: SessionKeys | None = msgspec.field(default=None)
    opened: tuple[OpenedKeys, ...] = ()  # the oldest first
    handshake_s: float = 0.0  # when the last handshake succeeded, CLOCK_BOOTTIME
    hello: HelloExchange = msgspec.field(default_factory=HelloExchange)
    link: Link | None = None
    path: PeerPath = msgspec.field(default_factory=PeerPath)
    pin: SourcePin = msgspec.field(default_factory=SourcePin)
    port: PeerPort = msgspec.field(default_factory=PeerPort)
    liveness: Liveness = msgspec.field(default_factory=Liveness)

    def seal_control(self, content: bytes) -> bytes | None:
        """Return a control message under the session's next counter; None: it has none."""
        keys, counter = self.current, self.hello.counter
        if keys is None or counter is None or counter.next() >= REJECT_AFTER_MESSAGES:
            return None
        return transport.seal_data(keys.send, keys.remote_index, counter.draw(), content)

    def next_counter(self) -> int:
        """Return the counter under which the session's next message is sealed; 0: there is none."""
        return 0 if self.hello.counter is None else self.hello.counter.next()

    def may_be_asked(self) -> bool:
        """Return whether the peer answers questions."""
        return self.current is not None and self.hello.answers_probes

    def is_moved_by_initiations(self) -> bool:
        """Return whether the peer is where its initiation came from, before it has proved that.

        Until the first handshake has succeeded an initiation may be one that was recorded before
        our last start, and would lead us away from where the peer was then.
        """
        return self.address is None or self.is_guess or self.handshake_s > 0

    def is_in_use(self) -> bool:
        """Return whether there is a session, or one is tried for."""
        return self.current is not None or self.timers.is_trying()

    def on_answer(self, now_s: float) -> None:
        """Note that a handshake has succeeded."""
        self.liveness.on_handshake(self.address, self.n_attempts, now_s)
        self.handshake_s = now_s
        self.n_attempts = self.port.n_silent = self.pin.n_responses = 0
        self.port.is_said = False

    def note_opened(self, keys: SessionKeys) -> None:
        """Take note of keys that the link-reader is to open with: as many as it keeps."""
        concluding = None if self.concluding is None else self.concluding.keys
        in_use = (self.current, concluding, self.responding)
        old = [each for each in self.opened if each.keys not in in_use]
        left = old[: max(0, len(self.opened) + 1 - RECEIVING_KEYS)]
        self.opened = (*(each for each in self.opened if each not in left), OpenedKeys(keys))

    def note_added(self, index: int) -> None:
        """Take note that the link-reader opens with the keys of this index."""
        for each in self.opened:
            each.is_added |= each.keys.local_index == index

    def forget_expired(self, now_s: float) -> None:
        """Forget keys that open nothing any more."""
        created_before_s = now_s - self.timers.constants.reject_after_time_s
        if any(each.keys.created_s < created_before_s for each in self.opened):
            self.opened = tuple(
                each for each in self.opened if each.keys.created_s >= created_before_s
            )
