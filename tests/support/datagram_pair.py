"""Two sides of sessions on UDP: the sockets are lists, and `Side.work` does what workers would."""

from __future__ import annotations

import asyncio
import dataclasses
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from fastun.config.push import Push
from fastun.config.settings import Options, Role, Settings, load
from fastun.endpoint import Endpoint
from fastun.host.inner_mtu import InnerMtu
from fastun.host.sockets.maker import OWN
from fastun.lane.messages import AddReceivingKey, ForgetReceivingKeys
from fastun.link import hello
from fastun.link.datagram.sessions import DatagramSessions
from fastun.link.endpoint_health import EndpointHealth
from fastun.link.hello import Hello
from fastun.link.inside import Inside
from fastun.link.key_exchange import KeyExchange, SessionCounts
from fastun.link.local_end import LocalEnd
from fastun.link.outside import Outside
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.link.table import LinkTable
from fastun.native import UdpAddress
from fastun.native.secrets import Secret
from fastun.peers.peer import Peer
from fastun.session import messages, transport
from fastun.session.messages import MessageType
from fastun.session.timer_constants import TimerConstants
from tests.support.known_names import KnownNames
from tests.support.parties import CLIENT, SERVER
from tests.support.recording_lane import RecordingLane, key_in_region

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fastun.lane.messages import ToWorker
    from fastun.link.datagram.sockets import UdpSockets
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
SERVER_AS_PEER = Peer(
    name="server",
    public_key=SERVER.public,
    endpoints=(Endpoint("udp", "192.0.2.2", 51820),),
)


def settings(role: str) -> Settings:
    target = "tcp://192.0.2.1" if role == "connect" else None
    plain = load(cast("Role", role), target, Options(wire="plain", insecure=True))
    return dataclasses.replace(plain, wire="wireguard")


class Sockets:
    """Where a side's datagrams go: into a list, or nowhere at all."""

    maker = OWN

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, UdpAddress]] = []
        self.failure: OSError | None = None

    def send(self, message: bytes, to: UdpAddress, _: int = 0) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append((message, to))

    def address_of(self, host: Any, port: int, zone: int = 0, by: int | None = None) -> UdpAddress:
        return UdpAddress(host, port, by or 0, zone)

    def free_of(self, to: UdpAddress) -> int:
        return to.socket_index

    def tell_worker(self, *_: object) -> None:
        """The sockets are not passed on."""

    pass_to = tell_worker

    def has_room(self) -> bool:
        return False


async def names_resolved(at_least_s: float = 0.02) -> None:
    """Wait for all that was begun beside: a name is resolved in a thread.

    Initiations have a time of their own only each 2^24 ns.
    """
    await asyncio.sleep(at_least_s)
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


class Side:
    """One gateway, with what its workers would know."""

    def __init__(
        self,
        role: str,
        own: KeyPair,
        address: str,
        *peers: Peer,
        inside: Inside | None = None,
        lanes: Any = None,
    ) -> None:
        self.address = UdpAddress(ip_address(address), 51820)
        self.fields: dict[str, int] = {}
        self.endpoint: UdpAddress | None = None
        self.is_notified = True  # who was removed
        self.lane = RecordingLane()
        self.lane.peers = SimpleNamespace(
            clear=lambda _: None,
            read=lambda _, name: self.fields.get(name, 0),
            endpoint=lambda _: self.endpoint,
        )
        self.lanes = self.lane.as_lane() if lanes is None else lanes
        self.peer_slots = PeerSlots(self.lanes, self.let_go)
        self.peer_slots.replace(peers)
        self.hello = HELLO
        self.exchange = KeyExchange(self.peer_slots, own, lambda _: self.hello)
        self.links = LinkTable(self.lanes, hello.format_without_peer(settings(role)))
        self.sockets, self.counts = Sockets(), SessionCounts()
        self.pushed: list[Push] = []
        self.dns = KnownNames()
        self.health = EndpointHealth(own.public)
        self.inside = inside or Inside(0, "ft0", None)
        self.inner_mtu = InnerMtu(settings(role).mtu)
        end = LocalEnd(
            settings=settings(role),
            lane=self.lanes.udp,
            links=self.links,
            exchange=self.exchange,
            outside=Outside(self.dns.names(), self.inside, health=self.health),
            inner_mtu=self.inner_mtu,
            constants=TimerConstants(),
            counts=self.counts,
        )
        self.sessions = DatagramSessions(end, cast("UdpSockets", self.sockets), self._on_push)
        self.receiving: dict[int, tuple[int, Secret]] = {}
        self.confirmed: set[int] = set()
        self.given: list[tuple[str, ToWorker]] = []
        self.lane.take()

    def _on_push(self, peer: str, push: Push) -> None:
        """Take a push, with its keepalive, as the gateway does where it accepts that."""
        self.pushed.append(push)
        for slotted in self.peer_slots.by_slot.values():
            if slotted.peer.name == peer:
                self.peer_slots.push_keepalive(slotted.peer, push.keepalive)

    def let_go(self, slotted: SlottedPeer) -> None:
        """End what a removed peer has, as the gateway does."""
        slot = slotted.slot
        if self.is_notified:
            self.links.end(slot, "the peer was removed, or has another key")
            self.sessions.forget(slot)

    def have(self, *peers: Peer) -> None:
        """Have exactly these peers, as after two looks at the directory."""
        while not self.peer_slots.replace(peers):
            pass

    def work(self) -> None:
        """Do what the workers are given."""
        for lane in self.lanes.all:
            for role, message in lane.take():
                self.given.append((role, message))
                self.act(lane, role, message)

    def act(self, lane: RecordingLane, _: str, message: ToWorker) -> None:
        """Do what a worker is given."""
        if isinstance(message, AddReceivingKey):
            key = key_in_region(lane.keys, "link-reader", message.key)
            self.receiving[message.index] = (message.slot, Secret.of(key))
            self.sessions.on_key_added(message.slot, message.index)
        elif isinstance(message, ForgetReceivingKeys):
            self.receiving.clear()

    def take_in(self, message: bytes, source: UdpAddress) -> None:
        """Take a datagram as the link-reader would."""
        if messages.type_of(message) not in (MessageType.DATA, MessageType.DATA_AES):
            self.sessions.on_handshake(source, message)
            return
        index = messages.receiver_of(message)
        slot, key = self.receiving[index]
        _, content = transport.open_data(key, index, message)
        if content[:4] == hello.TYPE:
            self.sessions.on_control(slot, index, content)
        else:
            self.sessions.on_key_confirmed(slot, index)

    async def begin(self) -> bytes:
        """Begin a handshake; return the initiation, which is still on its way."""
        self.sessions.begin(0)
        await names_resolved()
        return self.sent()

    def sent(self) -> bytes:
        """Return the one datagram that was sent; it is on its way no more."""
        ((message, _),) = self.sockets.sent
        self.sockets.sent.clear()
        return message

    async def answer(self, message: bytes, source: UdpAddress) -> None:
        """Take a handshake message in, and let the workers do what comes of it."""
        self.take_in(message, source)
        await asyncio.sleep(0)
        self.work()

    def commands_of(self, kind: type[Any]) -> list[Any]:
        """Return what the workers were given of one kind since the last call."""
        found = [message for _, message in self.given if isinstance(message, kind)]
        self.given = [given for given in self.given if not isinstance(given[1], kind)]
        return found

    def results(self) -> dict[str, int]:
        return {str(name): n for name, n in self.exchange.results.items() if n}


class Pair:
    """A client that dials a server."""

    def __init__(
        self,
        preshared_key: bytes | None = None,
        keepalive_s: int = 0,
        server_inside: Inside | None = None,
        host: str = "192.0.2.2",
    ) -> None:
        endpoint = Endpoint("udp", host, 51820)
        server = dataclasses.replace(
            SERVER_AS_PEER,
            endpoints=(endpoint,),
            preshared_key=preshared_key,
            keepalive_s=keepalive_s,
        )
        self.client = self.side("connect", CLIENT, "192.0.2.1", server)
        self.server = self.side(
            "serve",
            SERVER,
            "192.0.2.2",
            Peer(name="ant", public_key=CLIENT.public, preshared_key=preshared_key),
            inside=server_inside,
        )

    def side(self, *arguments: Any, **more: Any) -> Side:
        """Make one."""
        return Side(*arguments, **more)

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


async def rekey(pair: Pair, now: SimpleNamespace) -> None:
    now.s += 130
    pair.client.fields["sent_data_ns"] = int(now.s * 1e9)
    pair.client.sessions.tick()
    await pair.settle()


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(200):  # only so that it ends
            await work

    asyncio.run(bounded())
