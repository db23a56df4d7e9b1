"""A peer that is silent is asked, and its path doubted: when, how often, and at which cost."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgspec
import pytest
import structlog

from fastun.lane.messages import SendKeepalive, SendMessage
from fastun.link.datagram import liveness, probe, silence_watch
from fastun.link.datagram.probe import Probe, Probed
from fastun.link.hello import Ability
from fastun.native import UdpAddress
from fastun.session import messages, transport
from fastun.session.messages import MessageType
from tests.support.datagram_pair import HELLO, Pair, names_resolved, run

if TYPE_CHECKING:
    from tests.support.datagram_pair import Side

TICK_S = 0.5
ANSWERS = msgspec.structs.replace(HELLO, abilities=frozenset(Ability))


class Path:
    """A client that sends data all the time, and a server that is there or not."""

    def __init__(
        self, now: SimpleNamespace, *, is_plain: bool = False, keepalive_s: int = 0
    ) -> None:
        self.now, self.pair = now, Pair(keepalive_s=keepalive_s)
        if not is_plain:
            self.pair.client.hello = self.pair.server.hello = ANSWERS
        self.answers = True
        self.n_questions = 0
        self.initiated_s: list[float] = []
        self.initiation = b""
        self.start_s = 0.0

    async def begin(self) -> None:
        await self.pair.begin()
        self.now.s += 1
        self.client.commands_of(SendMessage)
        self.start_s = self.now.s

    @property
    def client(self) -> Side:
        return self.pair.client

    async def pass_s(self, seconds: float, *, hears: bool = False, sends: bool = True) -> None:
        """Send all the time; ``hears``: packets come back."""
        for _ in range(round(seconds / TICK_S)):
            self.now.s += TICK_S
            if sends:
                self.client.fields["sent_data_ns"] = int(self.now.s * 1e9)
            if hears:
                self.hear(n_packets=1)
            self.client.sessions.tick()
            await names_resolved(0)
            self.client.work()
            for sent in self.client.commands_of(SendMessage):
                self.take(sent.message)
            while self.client.sockets.sent:
                message, _ = self.client.sockets.sent.pop()
                if messages.type_of(message) is MessageType.INITIATION:
                    self.initiated_s.append(self.now.s - self.start_s)
                    self.initiation = message

    async def deliver(self) -> None:
        """Let the last initiation arrive, and what comes of it."""
        self.client.sockets.sent = [(self.initiation, self.pair.server.address)]
        await self.pair.settle()

    def hear(self, n_packets: int = 0) -> None:
        self.client.fields["received_ns"] = int(self.now.s * 1e9) + 1
        count = self.client.fields.get("receive_packets", 0)
        self.client.fields["receive_packets"] = count + n_packets

    def take(self, message: bytes) -> None:
        index = messages.receiver_of(message)
        _, content = transport.open_data(self.pair.server.receiving[index][1], index, message)
        question = probe.decode(content)
        assert isinstance(question, Probe | Probed)
        if isinstance(question, Probe) and question.probe == probe.SHORTEST:
            self.n_questions += 1
            if self.answers:
                self.hear()


def test_a_peer_that_answers_what_is_sent_is_not_asked(now: SimpleNamespace) -> None:
    async def claim() -> None:
        path = Path(now)
        await path.begin()
        await path.pass_s(30, hears=True)
        assert (path.n_questions, path.initiated_s) == (0, [])

    run(claim())


def test_where_nothing_is_sent_nothing_is_asked(now: SimpleNamespace) -> None:
    async def claim() -> None:
        path = Path(now)
        await path.begin()
        for _ in range(60):
            now.s += TICK_S
            path.client.sessions.tick()
        await names_resolved()
        assert path.client.commands_of(SendMessage) == []
        assert path.client.sockets.sent == []

    run(claim())


def test_a_peer_that_answers_only_questions_is_asked_ever_less_and_not_doubted(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        path = Path(now)
        await path.begin()
        await path.pass_s(60)
        assert path.initiated_s == []
        assert 60 / (liveness.ASK_AFTER_MAX_S + 2 * TICK_S) <= path.n_questions <= 20
        # It sends something itself, and is gone after that.
        await path.pass_s(1, hears=True)
        path.answers, path.start_s = False, now.s
        await path.pass_s(4)
        assert 0.5 <= path.initiated_s[0] <= 1.5

    run(claim())


@pytest.mark.parametrize(("is_plain", "from_s", "to_s"), [(False, 0.5, 1.5), (True, 4, 5)])
def test_a_silent_peer_is_tried_by_handshakes_within_seconds_and_the_session_goes_on(
    now: SimpleNamespace, is_plain: bool, from_s: float, to_s: float
) -> None:
    async def claim() -> None:
        path = Path(now, is_plain=is_plain)
        await path.begin()
        link, path.answers = path.client.links.by_slot[0], False
        await path.pass_s(25)
        gaps = [after - before for before, after in pairwise(path.initiated_s)]
        assert from_s <= path.initiated_s[0] <= to_s
        for gap_s, least_s in zip(gaps, (1, 2, 5, 5), strict=False):
            assert least_s <= gap_s <= least_s + 2 * TICK_S
        assert path.client.links.by_slot[0] is link
        assert path.n_questions <= 2

    run(claim())


@pytest.mark.parametrize(
    ("is_plain", "limit_s"), [(False, silence_watch.GONE_S), (True, silence_watch.PLAIN_GONE_S)]
)
def test_a_peer_that_answers_nothing_is_gone_until_it_is_heard(
    now: SimpleNamespace, is_plain: bool, limit_s: float
) -> None:
    async def claim() -> None:
        path = Path(now, is_plain=is_plain)
        await path.begin()
        silence, path.answers = path.client.sessions.silence, False
        await path.pass_s(limit_s)
        assert not silence.is_gone(0)
        await path.pass_s(1)
        assert silence.is_gone(0)
        path.hear(n_packets=1)
        path.client.sessions.tick()
        assert not silence.is_gone(0)
        await names_resolved()

    run(claim())


def test_where_there_are_other_servers_a_silence_is_doubted_sooner_but_not_just_after_a_move() -> (
    None
):
    def doubted_after_s(life: liveness.Liveness, from_s: float) -> float:
        """Return when a silence that begins then is doubted, looked at each 0.05 s."""
        for n in range(100):
            step = life.step(from_s + n / 20, from_s, 7, may_ask=True, has_others=True)
            if step is liveness.Step.DOUBT:
                return n / 20
        raise AssertionError

    here, there = UdpAddress(ip_address("192.0.2.1"), 1), UdpAddress(ip_address("192.0.2.2"), 1)
    life = liveness.Liveness()
    assert doubted_after_s(life, 100) == pytest.approx(2 * liveness.QUICK_S, abs=0.06)
    life.doubt(here)
    life.on_handshake(there, 2, 101)
    assert doubted_after_s(life, 102) == pytest.approx(2, abs=0.06)
    life.doubt(there)
    life.on_handshake(there, 1, 105)  # it was only slow
    assert doubted_after_s(life, 110) == pytest.approx(3 * liveness.QUICK_S, abs=0.06)


@pytest.mark.parametrize(("round_trip_s", "least_s"), [(0.1, 2 * liveness.QUICK_S), (0.2, 2.0)])
def test_one_server_alone_is_doubted_as_soon_where_its_handshakes_are_answered_soon(
    round_trip_s: float, least_s: float
) -> None:
    life = liveness.Liveness()
    life.on_round_trip(round_trip_s)
    steps = (
        n / 20
        for n in range(100)
        if life.step(100 + n / 20, 100, 0, may_ask=True) is liveness.Step.DOUBT
    )
    assert next(steps) == pytest.approx(least_s, abs=0.06)


def test_handshakes_that_find_the_peer_where_it_was_come_ever_later(now: SimpleNamespace) -> None:
    """A path slower than the limit, or a peer that reads much and says nothing."""

    async def claim() -> None:
        path = Path(now, is_plain=True)
        await path.begin()
        doubts = []
        for _ in range(3):
            path.start_s, path.initiated_s = now.s, []
            while not path.initiated_s:
                await path.pass_s(TICK_S)
            doubts.append(path.initiated_s[0])
            await path.deliver()
        assert [round(each) for each in doubts] == [4, 8, 13]  # the last by WireGuard's own timer

    run(claim())


@pytest.mark.parametrize(("keepalive_s", "is_plain"), [(25, False), (25, True), (0, False)])
def test_a_keepalive_of_an_idle_peer_is_a_question_whose_answer_is_missed(
    now: SimpleNamespace, keepalive_s: int, *, is_plain: bool
) -> None:
    async def claim() -> None:
        path = Path(now, is_plain=is_plain, keepalive_s=keepalive_s)
        await path.begin()
        await path.pass_s(110, sends=False)
        is_asked = keepalive_s > 0 and not is_plain
        assert path.n_questions == 4 * is_asked
        assert len(path.client.commands_of(SendKeepalive)) == (4 if is_plain else 0)
        assert path.initiated_s == []
        path.answers, path.start_s = False, now.s
        await path.pass_s(30, sends=False)
        assert bool(path.initiated_s) == is_asked
        assert all(at_s <= 28 for at_s in path.initiated_s[:1])

    run(claim())


def test_a_server_that_is_silent_after_each_handshake_is_explained_once_a_minute(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        path = Path(now)
        await path.begin()
        path.answers = False
        with structlog.testing.capture_logs() as lines:
            for n in range(7):
                path.initiated_s = []
                while not path.initiated_s:
                    await path.pass_s(TICK_S)
                await path.deliver()
                said = [line for line in lines if "private key used on" in line["event"]]
                assert len(said) == (n >= 4), n
        assert said[0]["peer"] == "server"

    run(claim())
