"""Two peers on UDP begin a handshake at the same moment: whatever arrives when, or never.

Each answers the other's initiation, so there are two sessions for a while. What is sealed must open
at the other end all the time, and one of the two has to rekey in time.
"""

from __future__ import annotations

import asyncio
import functools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fastun import log
from fastun.lane.messages import AddReceivingKey, DetachLink, SendKeepalive, SetSendingKey
from fastun.session import clock, messages, tai64n
from fastun.session.messages import MessageType
from tests.support import datagram_pair
from tests.support.datagram_pair import START_S, Pair, Side
from tests.support.every_way import every_way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.every_way import Way

# Of a peer's receiving keys (N_RECEIVING_KEYS in key_table.h).
KEYS_MAX = 4


class Workers:
    """What the workers of one side know, and what has been seen of its handshakes."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.sending: SetSendingKey | None = None
        self.receiving: dict[int, int] = {}  # when it expires, by index, the oldest first
        self.confirmed: set[int] = set()
        self.answered_by: set[int] = set()  # the peer's indices in its answers to us
        self.n_initiations = 0

    @property
    def is_initiator(self) -> bool:
        """Whether the keys that it seals under are those of a handshake of its own."""
        assert self.sending is not None
        return self.sending.receiver_index in self.answered_by

    def has_key_to_add(self) -> bool:
        return any(isinstance(message, AddReceivingKey) for _, message, _ in self.side.lane.sent)

    def work(self) -> bool:
        """Do what was given; return whether a keepalive is to be sent."""
        self.side.work()
        given, self.side.given = self.side.given, []
        for role, message in given:
            match message:
                case AddReceivingKey():
                    self._add(message)
                case SetSendingKey():
                    self.sending = message
                case DetachLink() if role == "tun-reader":
                    self.sending = None
        return any(isinstance(message, SendKeepalive) for _, message in given)

    def _add(self, key: AddReceivingKey) -> None:
        if len(self.receiving) == KEYS_MAX:
            unused = [index for index in self.receiving if index not in self.confirmed]
            del self.receiving[(unused if len(unused) > 1 else list(self.receiving))[0]]
        self.receiving[key.index] = key.expires_ns


class Tunnel:
    """The two sides, with one session that the client has initiated."""

    def __init__(self, now: SimpleNamespace) -> None:
        self.now = now
        pair = Pair()
        self.sides = (pair.client, pair.server)
        self.workers = {side: Workers(side) for side in self.sides}
        self.lost: Callable[[], bool] = lambda: False

    def other(self, side: Side) -> Side:
        return self.sides[side is self.sides[0]]

    async def begin(self) -> None:
        self.sides[0].sessions.begin(0)
        await self.settle()
        self.now.s += 10

    async def cross(self) -> None:
        """Let both want a handshake at the same moment, and send their initiations."""
        for side in self.sides:
            side.sessions.doubt(0)
        await spin()
        assert [len(side.sockets.sent) for side in self.sides] == [1, 1]

    async def settle(
        self, choose: Callable[[int], int] = lambda _: 0, *, reorder: bool = False
    ) -> None:
        """Let everybody go on until there is nothing to do."""
        await spin()
        while steps := self._steps(reorder=reorder):
            steps[choose(len(steps))]()
            await spin()
            self.check()

    def _steps(self, *, reorder: bool) -> list[Callable[[], None]]:
        steps: list[Callable[[], None]] = []
        for side in self.sides:
            if self.workers[side].has_key_to_add():
                steps.append(functools.partial(self._work, side))
            else:
                self._work(side)
            n = len(side.sockets.sent)
            places = range(n if reorder else min(n, 1))
            steps += [functools.partial(self._deliver, side, place) for place in places]
        return steps

    def _work(self, side: Side) -> None:
        if self.workers[side].work():
            self._send(side, is_data=False)

    def _deliver(self, side: Side, place: int) -> None:
        message, _ = side.sockets.sent.pop(place)
        if self.lost():
            return
        kind = messages.type_of(message)
        if kind is MessageType.INITIATION:
            self.workers[side].n_initiations += 1
        elif kind is MessageType.RESPONSE:
            self.workers[self.other(side)].answered_by.add(int.from_bytes(message[4:8], "little"))
        else:
            self.workers[self.other(side)].confirmed.add(messages.receiver_of(message))
        self.other(side).take_in(message, side.address)

    def _send(self, side: Side, *, is_data: bool) -> None:
        """Seal something; it opens at once."""
        to = self.other(side)
        self.check()
        sending = self.workers[side].sending
        assert sending is not None
        for fields, direction in ((side.fields, "sent"), (to.fields, "received")):
            fields[f"{direction}_ns"] = int(self.now.s * 1e9)
            if is_data:
                fields[f"{direction}_data_ns"] = int(self.now.s * 1e9)
        index = sending.receiver_index
        if index not in self.workers[to].confirmed:
            self.workers[to].confirmed.add(index)
            to.sessions.on_key_confirmed(0, index)

    def check(self) -> None:
        """What is sealed opens."""
        now_ns = self.now.s * 1e9
        for side in self.sides:
            sending = self.workers[side].sending
            if sending is not None:
                keys = self.workers[self.other(side)].receiving
                assert now_ns < keys[sending.receiver_index]

    async def carry(self, duration_s: float) -> None:
        """Carry data both ways, each second, without a loss."""
        until_s = self.now.s + duration_s
        while self.now.s < until_s:
            self.now.s += 0.5
            for side in self.sides:
                sending = self.workers[side].sending
                assert sending is not None, "there is no session"
                assert self.now.s * 1e9 < sending.expires_ns
                self._send(side, is_data=True)
                self.now.s += 0.25
            for side in self.sides:
                side.sessions.tick()
            await spin()
            await self.settle()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    time = SimpleNamespace(s=START_S)
    monkeypatch.setattr(clock, "boottime_s", lambda: time.s)
    monkeypatch.setattr(tai64n, "now", lambda: tai64n.from_unix_ns(int(time.s * 1e9)))
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", _resolve)
    monkeypatch.setattr(datagram_pair, "settings", functools.cache(datagram_pair.settings))
    return time


async def spin() -> None:
    """Let all that is ready in the event loop go on: a queue, a task and what it waits for."""
    for _ in range(4):
        await asyncio.sleep(0)


async def _resolve(_: object, host: str, port: int) -> list[tuple[Any, ...]]:
    return [(None, None, None, "", (host, port))]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    log.configure("console", -1)
    yield
    structlog.reset_defaults()


def test_a_session_carries_data_for_ten_minutes(now: SimpleNamespace) -> None:
    async def claim() -> None:
        tunnel = Tunnel(now)
        await tunnel.begin()
        await tunnel.carry(600)
        # Each 120 s, by one side.
        assert sum(workers.n_initiations for workers in tunnel.workers.values()) in (5, 6)

    asyncio.run(claim())


@pytest.mark.slow
@pytest.mark.parametrize(
    "n_losses",
    [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)],
)
def test_handshakes_that_cross_in_any_order_leave_an_initiator(
    now: SimpleNamespace, n_losses: int
) -> None:
    ends: set[tuple[bool, ...]] = set()

    async def go(way: Way) -> None:
        now.s = START_S
        tunnel = Tunnel(now)
        await tunnel.begin()
        await tunnel.cross()
        left = ["a loss"] * n_losses
        tunnel.lost = lambda: bool(left and way.choose(2) and left.pop())
        await tunnel.settle(way.choose, reorder=True)
        end = tuple(workers.is_initiator for workers in tunnel.workers.values())
        assert any(end)
        if end not in ends:
            await tunnel.carry(600)
        ends.add(end)

    for way in every_way():
        asyncio.run(go(way))
    assert ends == {(True, True), (True, False), (False, True)}


@pytest.mark.slow
@given(st.lists(st.integers(0, 59), max_size=30), st.lists(st.booleans(), max_size=20))
@hypothesis_settings(
    max_examples=hypothesis_settings().max_examples * 3 // 5,
    suppress_health_check=[
        *hypothesis_settings().suppress_health_check,
        HealthCheck.function_scoped_fixture,
    ],
)
def test_handshakes_that_cross_and_are_lost_leave_a_tunnel(
    now: SimpleNamespace, order: list[int], losses: list[bool]
) -> None:
    async def claim() -> None:
        now.s = START_S
        tunnel = Tunnel(now)
        await tunnel.begin()
        choices, fates = iter(order), iter(losses)
        tunnel.lost = lambda: next(fates, False)
        await tunnel.cross()
        await tunnel.settle(lambda n: next(choices, 0) % n, reorder=True)
        await tunnel.carry(600)
        assert any(workers.is_initiator for workers in tunnel.workers.values())

    asyncio.run(claim())
