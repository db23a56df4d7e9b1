"""Two sides of several lanes on UDP: the workers of `datagram_pair`, in each lane."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec

from fastun.lane.endpoint_messages import SetEndpoint
from fastun.lane.messages import (
    AddReceivingKey,
    ForgetReceivingKeys,
    SendKeepalive,
    SetSendingKey,
)
from fastun.lane.session_lane import LanesBySlot
from fastun.link.hello import Ability
from fastun.native import SendingCounter, SendingCounters, UdpAddress
from fastun.native.secrets import Secret
from fastun.session import clock, messages, transport
from fastun.session.messages import MessageType
from tests.support.datagram_pair import HELLO, Pair, Side
from tests.support.recording_lane import RecordingLane, key_in_region

if TYPE_CHECKING:
    from fastun.lane.ways import SetWays
    from fastun.native import UdpAddress as Address

_NS_PER_S = 1_000_000_000


class Table:
    """A peer table, as the workers write it."""

    def __init__(self) -> None:
        self.fields: dict[tuple[int, str], int] = defaultdict(int)
        self.endpoints: dict[int, Address] = {}

    def read(self, slot: int, field: str) -> int:
        return self.fields[slot, field]

    def endpoint(self, slot: int) -> Address | None:
        return self.endpoints.get(slot)

    def note(self, slot: int, *fields: str) -> None:
        """Have something happen now."""
        for field in fields:
            self.fields[slot, field] = int(clock.boottime_s() * _NS_PER_S)

    def clear(self, _: int) -> None:
        """Nothing of the slots is another's here."""


class RecordingLanes:
    """The lanes of a gateway; ``spreads`` as of Lanes."""

    def __init__(self, n_lanes: int, *, spreads: bool) -> None:
        self.all = tuple(RecordingLane() for _ in range(n_lanes))
        for i, lane in enumerate(self.all):
            lane.index, lane.sending = i, SendingCounters.create()
            lane.peers = Table()  # type: ignore[assignment]
        self.spreads = spreads
        self.first = self.all[0]
        self.udp: Any = LanesBySlot(self.all) if spreads else self.first  # type: ignore[arg-type]
        self.peers = SimpleNamespace(
            read=lambda slot, field: sum(lane.peers.read(slot, field) for lane in self.all),
            latest=lambda slot, field: max(lane.peers.read(slot, field) for lane in self.all),
            clear=lambda _: None,
        )
        self.ways: list[SetWays] = []  # of the tun-reader of the first lane
        self.opened: set[int] = set()  # whose queues the device gives frames to
        self.is_worth = True  # to open one more
        self.opening = SimpleNamespace(is_worth=lambda _: self.is_worth, note_opened=lambda: None)

    def of_datagrams(self, slot: int, number: int = 0) -> RecordingLane:
        return self.all[((slot if self.spreads else 0) + number) % len(self.all)]

    def of_stream(self, slot: int, number: int = 0) -> RecordingLane:
        return self.all[(slot + number) % len(self.all)]

    def open(self, lane: RecordingLane) -> None:
        self.opened.add(lane.index)

    def set_ways(self, ways: SetWays, lane: RecordingLane | None = None) -> None:
        if lane in (None, self.first):
            self.ways.append(ways)

    def send(self, role: str, message: Any, fd: int = -1) -> None:
        for lane in self.all:
            lane.send(role, message, fd)


class SeveralSide(Side):
    """One gateway whose workers seal and open in each lane."""

    def __init__(self, *arguments: Any, n_lanes: int, **more: Any) -> None:
        spreads = arguments[0] == "serve"
        super().__init__(*arguments, lanes=RecordingLanes(n_lanes, spreads=spreads), **more)
        self.sealing: dict[int, SetSendingKey] = {}  # by lane
        self.leads: dict[int, Address] = {}  # where ways were said to lead, by lane
        self.is_deaf_in: set[int] = set()
        self.opened_in: dict[int, int] = {}  # by index, the lane
        self.new_ports: list[int] = []  # lanes
        self.sockets.of_lane = self._of_lane  # type: ignore[attr-defined]
        dials = frozenset({*HELLO.abilities} | ({Ability.DIALS} if not spreads else set()))
        self.say(lanes=n_lanes, abilities=dials, bundle=0 if spreads else 7)

    def _of_lane(self, lane: int, *, is_new: bool) -> Any:
        if is_new:
            self.new_ports.append(lane)
        return SimpleNamespace(has_offload=True, socket=SimpleNamespace(fileno=lambda: -1))

    def say(self, **fields: Any) -> None:
        """Say this in hellos from now on."""
        self.hello = msgspec.structs.replace(self.hello, **fields)

    def lanes_of(self, slot: int = 0) -> tuple[int, ...]:
        """Return the lanes that carry the peer."""
        return self.links.of_peers.lanes_of(slot)

    def load(self, n_packets: int) -> None:
        """Have so many packets pass."""
        self.lanes.first.peers.fields[0, "transmit_packets"] += n_packets

    def act(self, lane: RecordingLane, role: str, message: Any) -> None:
        if isinstance(message, AddReceivingKey):
            self.opened_in[message.index] = lane.index
            super().act(lane, role, message)
        elif isinstance(message, SetSendingKey):
            self.sealing[lane.index] = message
        elif isinstance(message, SetEndpoint):
            self.leads[lane.index] = UdpAddress.unpack(message.endpoint)
        elif isinstance(message, SendKeepalive) and lane.index in self.sealing:
            key = self.sealing[lane.index]
            lane.peers.note(message.slot, "sent_ns")
            secret = Secret.of(key_in_region(lane.keys, "tun-reader", key.key))
            counter = SendingCounter(lane.sending, message.slot, key.source).draw()
            sealed = transport.seal_data(secret, key.receiver_index, counter, b"")
            self.sockets.sent.append((sealed, self.address))
        if isinstance(message, ForgetReceivingKeys):
            self.receiving = {
                index: known
                for index, known in self.receiving.items()
                if self.opened_in.get(index) != lane.index
            }

    def take_in(self, message: bytes, source: UdpAddress) -> None:
        if messages.type_of(message) in (MessageType.DATA, MessageType.DATA_AES):
            index = messages.receiver_of(message)
            lane = self.opened_in.get(index)
            if lane is None or lane in self.is_deaf_in or index not in self.receiving:
                return
            self.lanes.all[lane].peers.note(0, "received_ns")
        super().take_in(message, source)


class SeveralPair(Pair):
    """A client that dials a server, each with several lanes."""

    def __init__(self, n_client: int, n_server: int) -> None:
        self._n_lanes = {"connect": n_client, "serve": n_server}
        super().__init__()

    def side(self, role: str, *arguments: Any, **more: Any) -> SeveralSide:
        return SeveralSide(role, *arguments, n_lanes=self._n_lanes[role], **more)

    async def looks(self, now: SimpleNamespace, n: int, n_packets: int = 0) -> None:
        """Let time pass in looks of half a second, each with so many packets of the client's."""
        for _ in range(n):
            now.s += 0.5
            self.client.load(n_packets)  # type: ignore[attr-defined]
            for side in (self.client, self.server):
                side.sessions.tick()
            await self.settle(n_rounds=4)
