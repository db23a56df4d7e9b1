"""Sessions on UDP between two sides: whose keys are used when, what is said, and what is let go.

The sockets are lists; the workers are played by `Side.work`, which does what theirs would do.
"""

from __future__ import annotations

import asyncio
import dataclasses
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from fastun._native import Aead, UdpAddress, has_aes_instructions
from fastun.channel import (
    AddReceivingKey,
    AttachLink,
    DetachLink,
    ForgetReceivingKeys,
    SendKeepalive,
    SetEndpoint,
    SetGateKeys,
    SetPathMtu,
    SetSendingKey,
)
from fastun.config.settings import Options, Settings, load
from fastun.endpoint import Endpoint
from fastun.link import hello, udp
from fastun.link.correspondent import GATEWAY_COUNTERS, HELLOS_MAX
from fastun.link.datagram_sessions import DatagramSessions
from fastun.link.greeting import SealedGreeter
from fastun.link.hello import Hello, HelloError, Push
from fastun.link.stream_sessions import SessionCounts
from fastun.link.table import LinkTable
from fastun.peers.peer import Peer
from fastun.peers.roster import Roster
from fastun.session import clock, cookies, messages, primitives, transport
from fastun.session.messages import MessageType
from fastun.session.refusal import Refusal
from fastun.session.timer_constants import TimerConstants
from tests.unit.recording_lane import RecordingLane
from tests.unit.session.parties import CLIENT, PSK, SERVER, STRANGER, cookie_reply

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fastun.channel import ToWorker
    from fastun.link.udp import UdpSockets
    from fastun.session.keys import KeyPair

COOKIE = bytes(range(16))
HELLO = Hello(
    version=hello.PROTOCOL_VERSION,
    software="fastun test",
    mode="tun",
    offload=("tcp",),
    message_max=60000,
    aeads=(hello.CHACHA, hello.AES),
)
START_S = 5000.0


def settings(role: str) -> Settings:
    plain = load("serve", None, Options(wire="plain", insecure=True))
    return dataclasses.replace(plain, wire="wireguard", role=role)  # type: ignore[arg-type]


class Sockets:
    """Where a side's datagrams go: into a list, or nowhere at all."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, UdpAddress]] = []
        self.failure: OSError | None = None

    def send(self, message: bytes, to: UdpAddress) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append((message, to))

    def address_of(self, host: Any, port: int, zone: int = 0) -> UdpAddress:
        return UdpAddress(host, port, zone=zone)

    def tell_worker(self, *_: object) -> None:
        """The sockets are not passed on."""


async def names_resolved(at_least_s: float = 0.02) -> None:
    """Wait for all that was begun beside: a name is resolved in a thread, even a number.

    Initiations have a time of their own only each 2^24 ns.
    """
    await asyncio.sleep(at_least_s)
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


class Side:
    """One gateway, with what its workers would know."""

    def __init__(self, role: str, own: KeyPair, address: str, *peers: Peer) -> None:
        self.address = UdpAddress(ip_address(address), 51820)
        self.fields: dict[str, int] = {}
        self.endpoint: UdpAddress | None = None
        self.is_told = True  # who was removed
        self.lane = RecordingLane()
        self.lane.peers = SimpleNamespace(
            clear=lambda _: None,
            read=lambda _, name: self.fields.get(name, 0),
            endpoint=lambda _: self.endpoint,
        )
        self.roster = Roster(self.lane.as_lane(), self.let_go)
        self.roster.replace(peers)
        self.hello = HELLO
        self.greeter = SealedGreeter(self.roster, own, lambda _: self.hello)
        self.links = LinkTable(self.lane.as_lane(), hello.format_without_peer(settings(role)))
        self.sockets, self.counts = Sockets(), SessionCounts()
        self.pushed: list[Push] = []
        self.sessions = DatagramSessions(
            settings(role),
            self.lane.as_lane(),
            self.links,
            self.roster,
            self.greeter,
            cast("UdpSockets", self.sockets),
            own,
            TimerConstants(),
            self.counts,
            self.pushed.append,
        )
        self.receiving: dict[int, tuple[int, bytes]] = {}
        self.confirmed: set[int] = set()
        self.told: list[tuple[str, ToWorker]] = []
        self.lane.take()

    def let_go(self, slot: int) -> None:
        """End what a removed peer has, as the gateway does."""
        if self.is_told:
            self.links.end(slot, "the peer was removed or changed")
            self.sessions.forget(slot)

    def have(self, *peers: Peer) -> None:
        """Have exactly these peers, as after two looks at the directory."""
        while not self.roster.replace(peers):
            pass

    def work(self) -> None:
        """Do what the workers are told."""
        for role, message in self.lane.take():
            self.told.append((role, message))
            if isinstance(message, AddReceivingKey):
                key = dict(message.keys)[Aead.CHACHA20_POLY1305]
                self.receiving[message.index] = (message.slot, key)
                self.sessions.on_key_added(message.slot, message.index)
            elif isinstance(message, ForgetReceivingKeys):
                self.receiving.clear()

    def take_in(self, message: bytes, source: UdpAddress) -> None:
        """Take a datagram as the link-reader would."""
        if messages.type_of(message) not in (MessageType.DATA, MessageType.DATA_AES):
            self.sessions.on_datagram(source, message)
            return
        index = messages.receiver_of(message)
        slot, key = self.receiving[index]
        _, content = transport.open_data(key, index, message)
        if content[:4] == hello.TYPE:
            self.sessions.on_control(slot, index, content)
        else:
            self.sessions.on_key_confirmed(slot, index)

    def told_of(self, kind: type[Any]) -> list[Any]:
        """Return what the workers were told of one kind since the last call."""
        found = [message for _, message in self.told if isinstance(message, kind)]
        self.told = [told for told in self.told if not isinstance(told[1], kind)]
        return found

    def results(self) -> dict[str, int]:
        return {str(name): n for name, n in self.greeter.results.items() if n}


class Pair:
    """A client that dials a server."""

    def __init__(self, preshared_key: bytes | None = None, keepalive_s: int = 0) -> None:
        endpoint = Endpoint("udp", "192.0.2.2", 51820)
        self.client = Side(
            "connect",
            CLIENT,
            "192.0.2.1",
            Peer(
                name="server",
                public_key=SERVER.public,
                endpoints=(endpoint,),
                preshared_key=preshared_key,
                keepalive_s=keepalive_s,
            ),
        )
        self.server = Side(
            "serve",
            SERVER,
            "192.0.2.2",
            Peer(name="ant", public_key=CLIENT.public, preshared_key=preshared_key),
        )

    async def settle(self, *, n_rounds: int = 12) -> None:
        """Carry datagrams to and fro until there are none."""
        for _ in range(n_rounds):
            await names_resolved(0.002)
            for side, other in ((self.client, self.server), (self.server, self.client)):
                side.work()
                for message, _ in [side.sockets.sent.pop(0) for _ in list(side.sockets.sent)]:
                    other.take_in(message, side.address)

    async def begin(self) -> None:
        self.client.sessions.begin(0)
        await self.settle()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    time = SimpleNamespace(s=START_S)
    monkeypatch.setattr(clock, "boottime_s", lambda: time.s)
    return time


pytestmark = pytest.mark.usefixtures("now")


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


# -- beginning --------------------------------------------------------------------------------


@pytest.mark.parametrize("preshared_key", [None, PSK])
def test_a_handshake_makes_udp_the_link_of_both(preshared_key: bytes | None) -> None:
    async def claim() -> None:
        pair = Pair(preshared_key)
        await pair.begin()
        for side in (pair.client, pair.server):
            assert side.links.by_slot[0].transport == "udp"
            assert side.links.by_slot[0].peer_software == HELLO.software
            assert side.results() == {"ok": 1}
            assert side.counts.n_rekeys == 0
            assert side.sessions.last_handshake_s(0) == START_S
            (attached, *others) = side.told_of(AttachLink)
            assert attached.link_format.is_datagram
            assert others == [attached]
        assert pair.server.links.by_slot[0].remote == "192.0.2.1:51820"
        for side, other in ((pair.client, pair.server), (pair.server, pair.client)):
            assert side.told_of(SetEndpoint) == [SetEndpoint(0, other.address.pack())]

    run(claim())


def test_the_agreed_cipher_seals_behind_the_gateways_counters() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        agreed = Aead.AES_256_GCM if has_aes_instructions() else Aead.CHACHA20_POLY1305
        for side in (pair.client, pair.server):
            told = side.told_of(SetSendingKey)
            assert told[0].aead == Aead.CHACHA20_POLY1305
            assert told[-1].aead == agreed
            assert {key.counter for key in told} == {GATEWAY_COUNTERS}
            assert len({key.receiver_index for key in told}) == 1

    run(claim())


def test_a_response_waits_until_the_link_reader_opens() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        await names_resolved()
        ((initiation, _),) = pair.client.sockets.sent
        pair.server.take_in(initiation, pair.client.address)
        await asyncio.sleep(0)
        assert pair.server.sockets.sent == []
        pair.server.sessions.on_key_added(0, 12345)
        assert pair.server.sockets.sent == []
        pair.server.work()
        ((response, to),) = pair.server.sockets.sent
        assert (len(response), to) == (92, pair.client.address)
        pair.server.sessions.on_key_added(0, messages.Response.unpack(response).sender)
        assert len(pair.server.sockets.sent) == 1

    run(claim())


def test_who_answers_seals_only_when_the_peer_has_shown_the_keys() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        await names_resolved()
        pair.server.take_in(pair.client.sockets.sent.pop()[0], pair.client.address)
        await asyncio.sleep(0)
        pair.server.work()
        assert pair.server.told_of(SetSendingKey) == []
        (index,) = pair.server.receiving
        pair.server.sessions.on_key_confirmed(0, index ^ 1)
        pair.server.work()
        assert pair.server.told_of(SetSendingKey) == []
        pair.server.sessions.on_key_confirmed(0, index)
        pair.server.sessions.on_key_confirmed(0, index)
        pair.server.work()
        assert len(pair.server.told_of(SetSendingKey)) == 1

    run(claim())


def test_whom_we_have_asked_seals_only_under_the_keys_that_the_link_reader_has() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        await names_resolved()
        pair.server.take_in(pair.client.sockets.sent.pop()[0], pair.client.address)
        await asyncio.sleep(0)
        pair.server.work()
        response = pair.server.sockets.sent.pop()[0]
        for _ in range(2):  # a response sent again answers nothing
            pair.client.take_in(response, pair.server.address)
            await asyncio.sleep(0)
        (key,) = [m for _, m in pair.client.lane.take() if isinstance(m, AddReceivingKey)]
        assert pair.client.results() == {str(Refusal.UNKNOWN_INDEX): 1}
        pair.client.sessions.on_key_added(0, key.index ^ 1)
        assert pair.client.lane.take() == []
        pair.client.sessions.on_key_added(0, key.index)
        pair.client.sessions.on_key_added(0, key.index)
        pair.client.work()
        assert len(pair.client.told_of(SetSendingKey)) == 1

    run(claim())


def test_of_several_peers_a_response_is_for_the_one_that_it_names() -> None:
    async def claim() -> None:
        pair = Pair()
        elsewhere = Endpoint("udp", "192.0.2.9", 51820)
        client = pair.client = Side(
            "connect",
            CLIENT,
            "192.0.2.1",
            Peer(name="other", public_key=STRANGER.public, endpoints=(elsewhere,)),
            Peer(
                name="server",
                public_key=SERVER.public,
                endpoints=(Endpoint("udp", "192.0.2.2", 51820),),
            ),
        )
        client.sessions.begin(0)
        await names_resolved()
        client.sockets.sent.clear()
        client.sessions.begin(1)
        await pair.settle()
        assert sorted(client.links.by_slot) == [1]
        assert client.results() == {"ok": 1}

    run(claim())


def test_a_peer_that_is_nowhere_is_not_begun_with() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.server.sessions.begin_all()
        pair.server.sessions.begin(77)
        await names_resolved()
        assert pair.server.sockets.sent == []

    run(claim())


def test_a_handshake_message_that_cannot_be_sent_is_as_good_as_lost(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.server.sockets.failure = OSError(101, "no route")
        await pair.begin()
        assert pair.client.links.by_slot == {}
        pair.server.sockets.failure = None
        now.s += 6
        pair.client.sessions.tick()
        await names_resolved()
        pair.server.take_in(pair.client.sockets.sent.pop()[0], pair.client.address)
        await asyncio.sleep(0)
        pair.server.work()
        pair.client.sockets.failure = OSError(101, "no route")  # a hello is lost, too
        await pair.settle()
        assert pair.client.links.by_slot[0].transport == "udp"
        assert pair.client.sockets.sent == []

    run(claim())


# -- what is refused --------------------------------------------------------------------------


def test_a_stranger_gets_no_answer() -> None:
    async def claim() -> None:
        pair = Pair()
        stranger = Side(
            "connect",
            STRANGER,
            "192.0.2.3",
            Peer(
                name="server",
                public_key=SERVER.public,
                endpoints=(Endpoint("udp", "192.0.2.2", 51820),),
            ),
        )
        stranger.sessions.begin(0)
        await names_resolved()
        ((initiation, _),) = stranger.sockets.sent
        pair.server.take_in(initiation, stranger.address)
        await asyncio.sleep(0)
        assert pair.server.lane.take() == []
        assert pair.server.sockets.sent == []
        assert pair.server.results() == {str(Refusal.UNKNOWN_PEER): 1}

    run(claim())


def test_a_response_or_cookie_for_no_handshake_of_ours_is_counted() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        body = bytes([2, 0, 0, 0, 9, 9, 9, 9, 8, 8, 8, 8]).ljust(60)
        pair.client.take_in(cookies.append_macs(body, CLIENT.public), pair.server.address)
        pair.client.take_in(bytes([3, 0, 0, 0, 8, 8, 8, 8]).ljust(64), pair.server.address)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pair.client.results() == {"ok": 1, str(Refusal.UNKNOWN_INDEX): 2}

    run(claim())


def test_a_cookie_is_for_who_asked_be_it_by_an_initiation_or_a_response(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        await names_resolved()
        ((initiation, _),) = pair.client.sockets.sent
        stray = bytes([3, 0, 0, 0, 8, 8, 8, 8]).ljust(64)
        pair.client.take_in(stray, pair.server.address)
        pair.server.take_in(initiation, pair.client.address)
        await asyncio.sleep(0)
        pair.server.work()
        ((response, _),) = pair.server.sockets.sent
        pair.server.take_in(cookie_reply(response, CLIENT.public, COOKIE), pair.client.address)
        await asyncio.sleep(0)
        assert pair.client.results() == {str(Refusal.UNKNOWN_INDEX): 1}
        assert pair.server.results() == {}
        # The next response shows it.
        pair.client.sockets.sent.clear()
        now.s += 6
        pair.client.sessions.tick()
        await names_resolved()
        ((again, _),) = pair.client.sockets.sent
        pair.server.sockets.sent.clear()
        pair.server.take_in(again, pair.client.address)
        await asyncio.sleep(0)
        pair.server.work()
        ((response, _),) = pair.server.sockets.sent
        assert response[-16:] == primitives.mac(COOKIE, response[:-16])

    run(claim())


def test_a_cookie_is_shown_by_the_next_initiation(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        await names_resolved()
        ((initiation, _),) = pair.client.sockets.sent
        pair.client.take_in(cookie_reply(initiation, SERVER.public, COOKIE), pair.server.address)
        await asyncio.sleep(0)
        pair.client.sockets.sent.clear()
        now.s += 6
        pair.client.sessions.tick()
        await names_resolved()
        ((again, _),) = pair.client.sockets.sent
        assert again[-16:] == primitives.mac(COOKIE, again[:-16])

    run(claim())


def test_a_cookie_is_shown_by_the_next_response(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        for is_asked in (True, False):
            await names_resolved()
            pair.server.take_in(pair.client.sockets.sent.pop()[0], pair.client.address)
            await asyncio.sleep(0)
            pair.server.work()
            ((response, _),) = pair.server.sockets.sent
            pair.server.sockets.sent.clear()
            if is_asked:
                reply = cookie_reply(response, CLIENT.public, COOKIE)
                pair.server.take_in(reply, pair.client.address)
                now.s += 6
                pair.client.sessions.tick()
        assert response[-16:] == primitives.mac(COOKIE, response[:-16])

    run(claim())


# -- hello ------------------------------------------------------------------------------------


def test_a_hello_counts_only_under_the_keys_in_use_and_only_if_it_is_one() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.hello = msgspec.structs.replace(HELLO, software="another")
        await pair.begin()
        sessions, link = pair.server.sessions, pair.server.links.by_slot[0]
        assert link.peer_software == "another"
        pair.server.sockets.sent.clear()
        other = hello.encode(msgspec.structs.replace(HELLO, software="a third"))
        (index,) = pair.server.receiving
        sessions.on_control(0, index ^ 1, other)
        sessions.on_control(5, index, other)
        sessions.on_control(0, index, hello.TYPE + b"\xc1")
        assert pair.server.sockets.sent == []
        # Said again it is answered again, for the answer may have been lost; what it says counts
        # once a session.
        sessions.on_control(0, index, other)
        assert len(pair.server.sockets.sent) == 1
        assert link.peer_software == "another"

    run(claim())


def test_a_hello_that_is_answered_is_not_answered() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        (index,) = pair.client.receiving
        pair.client.sessions.on_control(0, index, hello.encode(HELLO))
        assert pair.client.sockets.sent == []

    run(claim())


def test_a_hello_that_was_answered_is_not_said_again(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        now.s += 1.1
        pair.client.sessions.tick()
        assert pair.client.sockets.sent == []

    run(claim())


def test_a_hello_that_is_not_answered_is_said_again_but_not_for_ever(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.server.greeter.hello_for = _says_nothing
        await pair.begin()
        said = []
        for _ in range(12):
            now.s += 0.6
            pair.client.sessions.tick()
            said.append(len(pair.client.sockets.sent))
            pair.client.sockets.sent.clear()
        assert said[: 2 * (HELLOS_MAX - 1)] == [0, 1] * (HELLOS_MAX - 1)
        assert sum(said) == HELLOS_MAX - 1
        assert pair.client.links.by_slot[0].peer_software == hello.PLAIN_WIREGUARD

    def _says_nothing(_: object) -> Hello:
        raise HelloError("nothing to say")

    run(claim())


def test_a_peer_that_asks_on_and_on_does_not_use_up_the_workers_counters() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        (index,) = pair.server.receiving
        for _ in range(2 * GATEWAY_COUNTERS):
            pair.server.sessions.on_control(0, index, hello.encode(HELLO))
        assert len(pair.server.sockets.sent) == GATEWAY_COUNTERS - 1

    run(claim())


def test_who_waits_for_a_hello_does_not_say_one(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        await names_resolved()
        pair.server.take_in(pair.client.sockets.sent.pop()[0], pair.client.address)
        await asyncio.sleep(0)
        pair.server.work()
        pair.server.sessions.on_key_confirmed(0, next(iter(pair.server.receiving)))
        pair.server.sockets.sent.clear()
        for _ in range(4):
            now.s += 0.6
            pair.server.sessions.tick()
        assert pair.server.sockets.sent == []

    run(claim())


def test_a_cipher_that_both_begin_with_is_told_once() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.hello = msgspec.structs.replace(HELLO, aeads=(hello.CHACHA,))
        await pair.begin()
        for side in (pair.client, pair.server):
            (told,) = side.told_of(SetSendingKey)
            assert told.aead == Aead.CHACHA20_POLY1305

    run(claim())


def test_only_a_client_is_pushed_to_and_once_a_link(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        push = Push(addresses=("10.9.0.2/24",), keepalive=25)
        pair.client.hello = pair.server.hello = msgspec.structs.replace(HELLO, push=push)
        await pair.begin()
        assert pair.client.pushed == [push]
        assert pair.server.pushed == []
        # The keepalive that it asks for is kept.
        now.s += 10.5
        pair.client.sessions.tick()
        pair.client.work()
        pair.client.told_of(SendKeepalive)
        now.s += 25
        pair.client.sessions.tick()
        pair.client.work()
        assert pair.client.told_of(SendKeepalive) == [SendKeepalive(0)]
        await rekey(pair, now)
        assert pair.client.pushed == [push]

    run(claim())


def test_a_keepalive_of_our_own_comes_before_one_that_is_pushed(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair(keepalive_s=5)
        push = Push(keepalive=25)
        pair.server.hello = msgspec.structs.replace(HELLO, push=push)
        await pair.begin()
        assert pair.client.pushed == [push]
        now.s += 5.5
        pair.client.sessions.tick()
        pair.client.work()
        assert pair.client.told_of(SendKeepalive) == [SendKeepalive(0)]

    run(claim())


# -- rekeying, doubt, roaming -----------------------------------------------------------------


async def rekey(pair: Pair, now: SimpleNamespace) -> None:
    now.s += 130
    pair.client.fields["sent_data_ns"] = int(now.s * 1e9)
    pair.client.sessions.tick()
    await pair.settle()


def test_a_rekey_keeps_the_link(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        links = [side.links.by_slot[0] for side in (pair.client, pair.server)]
        for side in (pair.client, pair.server):
            side.told_of(AttachLink)
            agreed = side.told_of(SetSendingKey)[-1].aead
        await rekey(pair, now)
        assert [side.links.by_slot[0] for side in (pair.client, pair.server)] == links
        assert pair.client.told_of(AttachLink) == []
        for side in (pair.client, pair.server):
            assert side.counts.n_rekeys == 1
            told = side.told_of(SetSendingKey)
            assert len({key.receiver_index for key in told}) == 1
            assert (told[0].aead, told[-1].aead) == (Aead.CHACHA20_POLY1305, agreed)
            assert side.results()["ok"] == 2

    run(claim())


def test_a_path_is_doubted_once_until_a_handshake_answers(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        now.s += 1
        for _ in range(3):
            pair.client.sessions.doubt(0)
        pair.client.sessions.doubt(5)
        await names_resolved()
        assert len(pair.client.sockets.sent) == 1
        await pair.settle()
        assert pair.client.sessions.last_handshake_s(0) == now.s
        now.s += 1
        pair.client.sessions.doubt(0)
        await names_resolved()
        assert len(pair.client.sockets.sent) == 1

    run(claim())


def test_where_a_peer_has_roamed_to_is_followed() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        roamed = UdpAddress(ip_address("198.51.100.9"), 1234)
        pair.server.endpoint = roamed
        pair.server.sessions.tick()
        assert pair.server.links.by_slot[0].remote == "198.51.100.9:1234"
        (index,) = pair.server.receiving
        pair.server.sessions.on_control(0, index, hello.encode(HELLO))
        assert [to for _, to in pair.server.sockets.sent] == [roamed]
        # A handshake goes there as well, and not first to where the peer was once.
        pair.client.endpoint = roamed
        pair.client.sessions.tick()
        pair.client.sessions.doubt(0)
        await names_resolved()
        assert [to for _, to in pair.client.sockets.sent] == [roamed]

    run(claim())


def test_a_path_is_measured_when_a_datagram_does_not_fit_and_now_and_then(
    now: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        client = pair.client
        client.told_of(SetPathMtu)
        monkeypatch.setattr(udp, "path_mtu", lambda *_: 1300)
        client.sessions.on_path_too_narrow(5)
        client.sessions.on_path_too_narrow(0)
        client.work()
        assert client.told_of(SetPathMtu) == [SetPathMtu(0, 1240)]
        monkeypatch.setattr(udp, "path_mtu", lambda *_: 1400)
        now.s += 10
        client.sessions.tick()
        client.work()
        assert client.told_of(SetPathMtu) == [SetPathMtu(0, 1340)]

    run(claim())


def test_links_follow_the_devices_mtu(
    now: SimpleNamespace,  # noqa: ARG001 (stands still)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def claim() -> None:
        monkeypatch.setattr(udp, "path_mtu", lambda *_: 9000)
        pair = Pair()
        pair.client.sessions.follow_mtu(1300)
        await pair.begin()
        client = pair.client
        assert client.links.by_slot[0].link_format.mtu == 1300
        assert client.told_of(SetPathMtu) == [SetPathMtu(0, 1300)]
        client.sessions.follow_mtu(8000)
        client.work()
        assert client.told_of(SetPathMtu) == [SetPathMtu(0, 8000)]
        client.links.end(0, "test")
        client.sessions.follow_mtu(1300)
        client.work()
        assert client.told_of(SetPathMtu) == []

    run(claim())


def test_what_came_before_the_link_is_not_its_sessions(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        now.s += 1
        pair.client.fields["received_data_ns"] = int(now.s * 1e9)
        await pair.settle()
        now.s += 10.1
        pair.client.sessions.tick()
        pair.client.work()
        assert pair.client.told_of(SendKeepalive) == []

    run(claim())


# -- what is let go ---------------------------------------------------------------------------


def test_a_session_that_nothing_is_heard_of_ends_its_link_and_then_its_keys(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        (index,) = pair.server.receiving
        now.s += 181
        pair.server.sessions.tick()
        assert pair.server.links.by_slot == {}
        pair.server.work()
        pair.server.told_of(ForgetReceivingKeys)
        now.s += 180 * 2
        pair.server.sessions.tick()
        pair.server.work()
        assert pair.server.told_of(ForgetReceivingKeys) == [ForgetReceivingKeys(0)]
        pair.server.sockets.sent.clear()
        pair.server.sessions.on_control(0, index, hello.encode(HELLO))
        assert pair.server.sockets.sent == []

    run(claim())


def test_a_stream_that_has_taken_over_does_not_end_with_the_session(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        stream = SimpleNamespace(id=99, transport="tcp")
        pair.server.links.by_slot[0] = cast("Any", stream)
        now.s += 181
        pair.server.sessions.tick()
        assert pair.server.links.by_slot == {0: stream}

    run(claim())


def test_a_handshake_takes_over_from_a_stream(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        stream = SimpleNamespace(id=99, transport="tcp", connection=None)
        pair.client.links.by_slot[0] = cast("Any", stream)
        now.s += 1
        pair.client.sessions.doubt(0)
        await pair.settle()
        assert pair.client.links.by_slot[0].transport == "udp"

    run(claim())


def test_a_client_goes_on_trying_and_a_server_gives_up(now: SimpleNamespace) -> None:
    async def claim() -> None:
        for role, goes_on in (("connect", True), ("serve", False)):
            endpoint = Endpoint("udp", "192.0.2.2", 51820)
            side = Side(
                role,
                CLIENT,
                "192.0.2.1",
                Peer(name="server", public_key=SERVER.public, endpoints=(endpoint,)),
            )
            side.sessions.begin_all()
            for _ in range(60):
                now.s += 2
                side.sessions.tick()
            await names_resolved()
            side.sockets.sent.clear()
            for _ in range(10):
                now.s += 2
                side.sessions.tick()
            await names_resolved()
            assert bool(side.sockets.sent) == goes_on

    run(claim())


def test_after_all_an_answer_is_too_late(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        endpoint = Endpoint("udp", "192.0.2.2", 51820)
        side = pair.client = Side(
            "serve",
            CLIENT,
            "192.0.2.1",
            Peer(name="server", public_key=SERVER.public, endpoints=(endpoint,)),
        )
        side.sessions.begin(0)
        for _ in range(60):
            now.s += 2
            side.sessions.tick()
        await names_resolved()
        initiation = side.sockets.sent[-1][0]
        side.sockets.sent.clear()
        now.s += 3 * 180
        side.sessions.tick()
        pair.server.take_in(initiation, side.address)
        await pair.settle()
        assert side.results() == {str(Refusal.UNKNOWN_INDEX): 1}
        assert side.links.by_slot == {}

    run(claim())


def test_a_removed_peers_keys_are_forgotten() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        pair.server.sessions.forget(0)
        pair.server.sessions.forget(0)
        pair.server.work()
        assert pair.server.told_of(ForgetReceivingKeys) == [ForgetReceivingKeys(0)]
        assert pair.server.sessions.last_handshake_s(0) == 0.0

    run(claim())


BEE = Peer(name="bee", public_key=STRANGER.public)


async def unanswered(pair: Pair, now: SimpleNamespace) -> tuple[bytes, bytes]:
    """Let the server ask its client anew; return the initiation and the response, kept back."""
    await pair.begin()
    now.s += 1
    pair.server.sessions.doubt(0)
    await names_resolved()
    ((initiation, _),) = pair.server.sockets.sent
    pair.server.sockets.sent.clear()
    pair.client.take_in(initiation, pair.server.address)
    await asyncio.sleep(0)
    pair.client.work()
    ((response, _),) = pair.client.sockets.sent
    pair.client.sockets.sent.clear()
    return initiation, response


ELSEWHERE = UdpAddress(ip_address("203.0.113.66"), 6666)


@pytest.mark.parametrize("is_heard_of", [True, False])
@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_removed_peer_that_answers_at_last_gets_nobodys_place(
    now: SimpleNamespace, is_replaced: bool, is_heard_of: bool
) -> None:
    async def claim() -> None:
        pair = Pair()
        server = pair.server
        _, response = await unanswered(pair, now)
        if not is_heard_of:  # whatever goes wrong: who is not in the roster gets in nowhere
            server.is_told = False
        server.have(*((BEE,) if is_replaced else ()))
        server.lane.take()
        server.take_in(response, ELSEWHERE)
        await asyncio.sleep(0)
        assert server.lane.take() == []
        assert server.results() == {"ok": 1, str(Refusal.UNKNOWN_INDEX): 1}

    run(claim())


def test_a_removed_peers_cookie_is_for_nobody(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        initiation, _ = await unanswered(pair, now)
        reply = cookie_reply(initiation, CLIENT.public, COOKIE)
        pair.server.have(BEE)
        pair.server.take_in(reply, ELSEWHERE)
        await asyncio.sleep(0)
        assert pair.server.results() == {"ok": 1, str(Refusal.UNKNOWN_INDEX): 1}

    run(claim())


@pytest.mark.parametrize("is_member", [True, False])
def test_a_peer_that_is_removed_while_its_name_is_resolved_is_not_asked(is_member: bool) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        await asyncio.sleep(0)
        if is_member:  # it has changed, say
            pair.client.sessions.forget(0)
        else:
            pair.client.have()
        await names_resolved()
        assert pair.client.sockets.sent == []

    run(claim())


@pytest.mark.parametrize(("pause_s", "is_taken"), [(89, True), (90, False)])
def test_an_initiation_is_not_answered_when_there_would_be_no_other(
    now: SimpleNamespace, pause_s: float, is_taken: bool
) -> None:
    async def claim() -> None:
        pair = Pair()
        _, response = await unanswered(pair, now)
        now.s += pause_s
        pair.server.take_in(response, pair.client.address)
        await pair.settle()
        assert pair.server.results()["ok"] == 1 + is_taken

    run(claim())


# -- workers ----------------------------------------------------------------------------------


def test_a_fresh_link_reader_is_told_the_gates_key_and_where_the_peers_are() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        for role in ("tun-reader", "link-writer", "tun-writer"):
            pair.server.sessions.tell_worker(role)
        assert pair.server.lane.take() == []
        pair.server.sessions.tell_worker("link-reader")
        assert pair.server.lane.take() == [
            (
                "link-reader",
                SetGateKeys(cookies.mac1_key(SERVER.public), cookies.cookie_key(SERVER.public)),
            ),
            ("link-reader", SetEndpoint(0, pair.client.address.pack())),
        ]

    run(claim())


@pytest.mark.parametrize(
    ("role", "begins_anew"),
    [("tun-reader", True), ("link-reader", True), ("link-writer", False), ("tun-writer", False)],
)
def test_sessions_begin_anew_at_once_when_a_worker_dies_with_their_keys(
    role: str, begins_anew: bool
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        if begins_anew:
            pair.server.links.end_all(f"{role} died")
        (index,) = pair.server.receiving
        pair.server.sessions.on_worker_death(role)
        if begins_anew:  # the old keys are gone
            pair.server.sessions.on_control(0, index, hello.encode(HELLO))
            assert pair.server.sockets.sent == []
        await names_resolved()
        assert len(pair.server.sockets.sent) == begins_anew
        assert DetachLink(0) in [message for _, message in pair.server.lane.take()] or not (
            begins_anew
        )
        await pair.settle()
        assert pair.server.results()["ok"] == 1 + begins_anew
        assert pair.server.links.by_slot[0].transport == "udp"

    run(claim())


def test_a_peer_that_was_not_connected_is_not_asked_when_a_worker_dies() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.sessions.begin(0)
        await names_resolved()
        pair.server.take_in(pair.client.sockets.sent.pop()[0], pair.client.address)
        await asyncio.sleep(0)
        pair.server.sessions.on_worker_death("link-reader")
        await names_resolved()
        assert pair.server.sockets.sent == []

    run(claim())
