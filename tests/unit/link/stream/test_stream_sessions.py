"""Rekeying on a stream: whose keys are used when, whatever happens at once on both sides.

The stream is a list, and so is what each worker has still to read from its channel. In which order
they go on is chosen; what one of them has to do it does in its order.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog
from msgspec import structs

from fastun import log
from fastun.lane.messages import (
    AddReceivingKey,
    AttachLink,
    LinkFormat,
    SendKeepalive,
    SendMessage,
    SetSendingKey,
)
from fastun.link.established import Established
from fastun.link.key_exchange import KeyExchange, SessionCounts
from fastun.link.local_end import LocalEnd
from fastun.link.peer_slots import PeerSlots
from fastun.link.stream.sessions import StreamSessions
from fastun.link.table import LinkTable
from fastun.native import Mode, Wire
from fastun.peers.peer import Peer
from fastun.session import clock, messages, tai64n
from fastun.session.messages import MessageType
from fastun.session.protocol import REKEY_AFTER_MESSAGES
from fastun.session.timer_constants import TimerConstants
from fastun.session.transport import SessionKeys
from tests.support.every_way import every_way
from tests.support.parties import CLIENT, SERVER, shake_hands
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.lane.messages import ToWorker
    from fastun.session.keys import KeyPair
    from tests.support.every_way import Way

START_S = 5000.0
LINK_FORMAT = LinkFormat(
    Wire.WIREGUARD, Mode.TUN, super_outbound=False, super_inbound=False, message_max=60000
)


class Side:
    """One gateway and its workers."""

    def __init__(self, own: KeyPair, peer: Peer, keys: SessionKeys) -> None:
        self.fields: dict[str, int] = {}
        self.lane = RecordingLane()
        self.lane.peers = SimpleNamespace(
            clear=lambda _: None, read=lambda _, name: self.fields.get(name, 0)
        )
        self.links = LinkTable(self.lane.as_lane(), LINK_FORMAT)
        self.peer_slots = PeerSlots(
            self.lane.as_lane(),
            lambda slotted: self.links.end(slotted.slot, "the peer was removed"),
        )
        self.peer_slots.replace([peer])
        self.exchange = KeyExchange(self.peer_slots, own, lambda _: None)  # type: ignore[arg-type,return-value]
        end = LocalEnd(
            settings=cast("Any", None),
            lane=self.lane.as_lane(),
            links=self.links,
            exchange=self.exchange,
            outside=cast("Any", None),
            inner_mtu=cast("Any", None),
            constants=TimerConstants(),
            counts=SessionCounts(),
        )
        self.sessions = StreamSessions(end)
        self.given: dict[str, deque[ToWorker]] = {}
        self.at_once = ["tun-reader"]  # it makes no difference to the others when it does its work
        self.stream: deque[bytes | int] = deque()  # to it: handshakes, and indices of data
        self.has_data = False  # waiting for new keys
        self.sending = 0
        self.receiving: set[int] = set()
        self.unconfirmed: set[int] = set()
        self._begin(keys)

    def _begin(self, keys: SessionKeys) -> None:
        ours, self._theirs = socket.socketpair()
        established = Established(self.peer_slots.by_slot[0], LINK_FORMAT, "test", None, keys, 1)
        self.link = self.sessions.attach(established, ours, "somewhere")
        self.tell(self)
        while steps := self.steps(self):
            steps[0]()
        self.unconfirmed.clear()

    def tell(self, other: Side) -> None:
        """Pass on what the workers were given since the last time."""
        for role, message in self.lane.take():
            if role in self.at_once:
                self._act(message, other)
            else:
                self.given.setdefault(role, deque()).append(message)

    def steps(self, other: Side) -> list[Callable[[], None]]:
        """Return what could be done next here."""
        steps = [
            (lambda messages=messages: self._act(messages.popleft(), other))
            for messages in self.given.values()
            if messages
        ]
        return steps + ([lambda: self._hear(self.stream.popleft())] if self.stream else [])

    def _act(self, message: ToWorker, other: Side) -> None:
        match message:
            case AddReceivingKey(index=index):
                self.receiving.add(index)
                self.unconfirmed.add(index)
                self.sessions.on_key_added(0, index)
            case SetSendingKey():
                self.sending, self.fields["sealed"] = message.receiver_index, 0
                if self.has_data:
                    other.stream.append(self.sending)
            case SendKeepalive():
                other.stream.append(self.sending)
            case SendMessage():
                other.stream.append(message.message)

    def _hear(self, message: bytes | int) -> None:
        if isinstance(message, bytes):
            self.sessions.on_handshake(0, self.link.id, message)
            return
        assert message in self.receiving, "what was sent does not open"
        if message in self.unconfirmed:
            self.unconfirmed.remove(message)
            self.sessions.on_key_confirmed(0, message)

    def send_data(self, now: SimpleNamespace, sealed: int = 0) -> None:
        """Let the tun-reader have sealed something, and the timers hear of it."""
        self.fields["sent_ns"] = self.fields["sent_data_ns"] = int(now.s * 1e9)
        self.fields["sealed"] = max(sealed, self.fields["sealed"])
        now.s += 0.001
        self.sessions.tick()

    def initiations(self) -> int:
        """Return how many initiations it is about to send, which are lost."""
        sent = [message for _, message in self.lane.take() if isinstance(message, SendMessage)]
        return sum(kind_of(message.message) is MessageType.INITIATION for message in sent)


shaken_hands = functools.cache(shake_hands)


class Pair:
    """Two sides with one session; the client has initiated it."""

    def __init__(self) -> None:
        shaken = shaken_hands()
        self.client = Side(CLIENT, Peer(name="server", public_key=SERVER.public), shaken.client)
        self.server = Side(SERVER, Peer(name="ant", public_key=CLIENT.public), shaken.server)
        self.sides = (self.client, self.server)

    def settle(self, way: Way | None = None) -> None:
        """Let both go on until there is nothing to do."""
        while steps := self.steps():
            steps[0 if way is None else way.choose(len(steps))]()

    def steps(self) -> list[Callable[[], None]]:
        """Return what could be done next."""
        for side, other in ((self.client, self.server), (self.server, self.client)):
            side.tell(other)
        return self.client.steps(self.server) + self.server.steps(self.client)

    def both_send(self, now: SimpleNamespace, sealed: int = 0) -> None:
        for side in self.sides:
            side.send_data(now, sealed)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    time = SimpleNamespace(s=START_S)
    monkeypatch.setattr(clock, "boottime_s", lambda: time.s)
    monkeypatch.setattr(tai64n, "now", lambda: tai64n.from_unix_ns(int(time.s * 1e9)))
    return time


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    """Have an event loop, which need not run, and a log without debugging."""
    log.configure("console", 0)
    asyncio.set_event_loop(made := asyncio.new_event_loop())
    yield
    made.close()
    structlog.reset_defaults()


def test_a_rekey_is_used_by_both(now: SimpleNamespace) -> None:
    pair = Pair()
    before = [side.sending for side in pair.sides]
    now.s += 121
    pair.both_send(now)
    pair.settle()
    for side, other, old in zip(pair.sides, reversed(pair.sides), before, strict=True):
        assert side.sending in other.receiving
        assert side.sending != old


def test_a_pushed_keepalive_is_followed_and_taken_back(now: SimpleNamespace) -> None:
    pair = Pair()
    slotted = pair.client.peer_slots.by_slot[0]
    kept: list[bool] = []
    for interval_s in (7, 0):
        pair.client.peer_slots.push_keepalive(slotted.peer, interval_s)
        pair.client.sessions.tick()
        pair.settle()
        pair.client.lane.take()
        now.s += 7.5
        pair.client.sessions.tick()
        kept.append(("tun-reader", SendKeepalive(0)) in pair.client.lane.take())
    assert kept == [True, False]


def test_a_responder_seals_when_the_peer_has_shown_these_keys_and_no_others(
    now: SimpleNamespace,
) -> None:
    pair = Pair()
    server, before = pair.server, pair.server.sending
    now.s += 121
    pair.both_send(now)
    while MessageType.RESPONSE not in map(kind_of, pair.client.stream):
        pair.steps()[-1]()
    (index,) = server.unconfirmed
    server.sessions.on_key_confirmed(0, index ^ 1)
    server.tell(pair.client)
    assert server.sending == before
    server.sessions.on_key_confirmed(0, index)
    server.tell(pair.client)
    assert server.sending != before


@pytest.mark.slow
def test_whatever_crosses_the_sides_agree_and_one_of_them_rekeys_again(
    now: SimpleNamespace,
) -> None:
    n_ways = 0
    for way in every_way():
        now.s = START_S
        pair = Pair()
        pair.client.has_data = pair.server.has_data = True
        pair.server.at_once.append("link-writer")  # as it does with the other that may be late
        now.s += 10
        pair.both_send(now, sealed=REKEY_AFTER_MESSAGES)
        pair.settle(way)
        assert all(side.exchange.results["ok"] for side in pair.sides)
        for side, other in (pair.sides, reversed(pair.sides)):
            assert side.sending in other.receiving
        now.s += 121
        pair.both_send(now)
        assert sum(side.initiations() for side in pair.sides) > 0
        n_ways += 1
    assert n_ways > 100


def test_the_link_reader_has_the_key_before_it_has_the_connection() -> None:
    side = Pair().server
    ours, theirs = socket.socketpair()
    established = Established(
        side.peer_slots.by_slot[0], LINK_FORMAT, "test", None, shaken_hands().server, n_opened=1
    )
    side.lane.take()
    side.sessions.attach(established, ours, "somewhere")
    given = [
        type(message)
        for role, message in side.lane.take()
        if role == "link-reader" and isinstance(message, AddReceivingKey | AttachLink)
    ]
    assert given == [AddReceivingKey, AttachLink]
    theirs.close()


def test_a_handshake_hands_its_keys_on_once() -> None:
    side = Pair().server
    ours, theirs = socket.socketpair()
    established = Established(
        side.peer_slots.by_slot[0], LINK_FORMAT, "test", None, shaken_hands().server
    )
    side.sessions.attach(established, ours, "somewhere")
    assert established.keys is None
    theirs.close()


def session_keys() -> list[SessionKeys]:
    """Return those that something in this process keeps."""
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, SessionKeys)]


def test_after_a_rekey_only_the_new_keys_are_kept(now: SimpleNamespace) -> None:
    shaken_hands()  # whose keys the tests keep
    known = session_keys()
    pair = Pair()
    for _ in range(3):
        now.s += 121
        pair.both_send(now)
        pair.settle()
    kept = [keys for keys in session_keys() if all(keys is not other for other in known)]
    assert len(kept) == 2
    assert {keys.created_s for keys in kept} == {now.s}
    assert len({keys.local_index for keys in kept} | {keys.remote_index for keys in kept}) == 2


@pytest.mark.parametrize("what", ["replaced", "removed", "another link's"])
def test_a_response_that_was_under_way_when_its_link_ended_gives_no_keys(
    now: SimpleNamespace, what: str
) -> None:
    pair = Pair()
    now.s += 121
    pair.both_send(now)
    while MessageType.RESPONSE not in map(kind_of, pair.client.stream):
        pair.steps()[-1]()
    link = pair.client.link
    if what == "replaced":
        pair.client.links.of_peers.remove(link)
        pair.client.links.of_peers.add(structs.replace(link, id=77))
    elif what == "removed":
        pair.client.peer_slots.replace([])
    link_id = 77 if what == "another link's" else link.id
    response = pair.client.stream.popleft()
    assert isinstance(response, bytes)
    pair.client.lane.take()
    pair.client.sessions.on_handshake(0, link_id, response)
    assert pair.client.lane.take() == []
    assert pair.client.exchange.results.total() == 0


def kind_of(message: bytes | int) -> MessageType:
    return messages.type_of(message) if isinstance(message, bytes) else MessageType.DATA
