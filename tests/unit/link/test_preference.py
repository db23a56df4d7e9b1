"""UDP or TCP: when a path is doubted, when TCP is wanted, and what counts as an answer."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.link import preference
from fastun.link.preference import Preference
from fastun.session import clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

START_S = 1000.0


class Office:
    """A preference whose clock, link and counters are the test's."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.fields = {"receive_packets": 0, "received_ns": 0, "sent_data_ns": 0}
        self.handshake_s = 0.0
        self.begun: list[int] = []
        self.doubted: list[float] = []
        self.link: object = None
        lane = SimpleNamespace(peers=SimpleNamespace(read=lambda _, name: self.fields[name]))
        links = SimpleNamespace(by_slot=self)
        self.latest: dict[str, int] | None = None  # of several lanes
        self.make = lambda: Preference(
            cast("Any", lane),
            cast("Any", links),
            cast("Any", self),
            slot=0,
            latest=None if self.latest is None else lambda _, name: cast("Any", self.latest)[name],
        )
        self.preference = self.make()

    # What the table of links and the sessions have.

    def get(self, _: int) -> object:
        return self.link

    def begin(self, slot: int) -> None:
        self.begun.append(slot)

    def doubt(self, _: int) -> None:
        self.doubted.append(self.now_s - START_S)

    def last_handshake_s(self, _: int) -> float:
        return self.handshake_s

    # What happens.

    def be_on(self, transport: str) -> None:
        self.link = SimpleNamespace(transport=transport)

    def send(self) -> None:
        self.fields["sent_data_ns"] = int(self.now_s * 1e9)

    def hear(self, n_packets: int = 0) -> None:
        self.fields["received_ns"] = int(self.now_s * 1e9)
        self.fields["receive_packets"] += n_packets

    async def pass_s(self, seconds: float) -> None:
        """Let it look every quarter of a second."""
        for _ in range(round(seconds / 0.25)):
            self.now_s += 0.25
            for _ in range(3):
                await asyncio.sleep(0)

    @property
    def wants_stream(self) -> bool:
        return self.preference.wants_stream.is_set()


@contextlib.asynccontextmanager
async def running(office: Office) -> AsyncIterator[Office]:
    task = asyncio.create_task(office.preference.run())
    await asyncio.sleep(0)
    try:
        yield office
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Office:
    office = Office()
    monkeypatch.setattr(clock, "boottime_s", lambda: office.now_s)
    monkeypatch.setattr(preference, "LOOK_INTERVAL_S", 0)
    return office


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


def test_udp_is_tried_first_and_tcp_wanted_without_an_answer(office: Office) -> None:
    async def claim() -> None:
        async with running(office):
            assert office.begun == [0]
            await office.pass_s(1.75)
            assert not office.wants_stream
            await office.pass_s(0.25)
            assert office.wants_stream

    run(claim())


def test_on_udp_no_stream_is_wanted(office: Office) -> None:
    async def claim() -> None:
        async with running(office):
            await office.pass_s(3)
            assert office.wants_stream
            office.be_on("udp")
            await office.pass_s(0.25)
            assert not office.wants_stream
            await office.pass_s(60)
            assert office.doubted == []
            assert not office.wants_stream

    run(claim())


def test_on_a_stream_no_other_is_wanted_and_udp_is_tried(office: Office) -> None:
    async def claim() -> None:
        async with running(office):
            await office.pass_s(3)
            office.be_on("tcp")
            await office.pass_s(0.5)
            assert not office.wants_stream
            assert office.doubted

    run(claim())


def test_silence_brings_doubt_and_then_a_stream(office: Office) -> None:
    async def claim() -> None:
        async with running(office):
            office.be_on("udp")
            office.hear()
            await office.pass_s(0.25)
            office.send()
            await office.pass_s(1.5)
            assert office.doubted == []
            await office.pass_s(0.25)
            assert set(office.doubted) == {2.0}
            await office.pass_s(1.75)
            assert not office.wants_stream
            await office.pass_s(0.25)
            assert office.wants_stream

    run(claim())


@pytest.mark.parametrize("answer", ["data", "handshake"])
def test_an_answer_ends_the_silence(office: Office, answer: str) -> None:
    async def claim() -> None:
        async with running(office):
            office.be_on("udp")
            for _ in range(8):
                await office.pass_s(0.25)
                office.send()
                await office.pass_s(1)
                if answer == "data":
                    office.hear()
                else:
                    office.handshake_s = office.now_s
            assert office.doubted == []

    run(claim())


def test_an_answer_seen_only_by_its_time_begins_the_silence_anew(office: Office) -> None:
    async def claim() -> None:
        async with running(office):
            office.be_on("udp")
            office.send()
            await office.pass_s(1.25)
            office.hear()
            office.now_s += 0.01
            office.send()
            await office.pass_s(1.5)
            assert office.doubted == []
            await office.pass_s(0.5)
            assert office.doubted != []

    run(claim())


async def doubt_and_answer(office: Office) -> float:
    """Send what is not answered until a handshake is tried, and answers; after how long."""
    await office.pass_s(0.25)
    office.send()
    office.doubted.clear()
    since_s = office.now_s
    while not office.doubted:
        await office.pass_s(0.25)
    took_s = office.now_s - since_s
    await office.pass_s(0.25)
    office.handshake_s = office.now_s
    await office.pass_s(0.25)
    return took_s


def test_each_handshake_that_answers_makes_more_patient_up_to_an_end(office: Office) -> None:
    async def claim() -> None:
        async with running(office):
            office.be_on("udp")
            waits = [await doubt_and_answer(office) for _ in range(6)]
            assert waits == pytest.approx([1.75, 3.25, 6.25, 12.25, 12.25, 12.25])
            assert not office.wants_stream

    run(claim())


@pytest.mark.parametrize("what", ["packet", "stream"])
def test_a_packet_or_another_link_ends_the_patience(office: Office, what: str) -> None:
    async def claim() -> None:
        async with running(office):
            office.be_on("udp")
            assert [await doubt_and_answer(office) for _ in range(2)] == [1.75, 3.25]
            if what == "packet":
                office.hear(n_packets=1)
            else:
                office.be_on("tcp")
                await office.pass_s(0.25)
                office.be_on("udp")
            assert await doubt_and_answer(office) == 1.75

    run(claim())


def test_an_old_handshake_makes_no_more_patient(office: Office) -> None:
    async def claim() -> None:
        async with running(office):
            office.be_on("udp")
            office.handshake_s = office.now_s
            await office.pass_s(0.25)
            office.send()
            await office.pass_s(3.75)
            assert office.wants_stream

    run(claim())


@pytest.mark.parametrize("is_heard", [False, True])
def test_of_several_lanes_the_silence_of_all_counts_though_the_first_one_sends_nothing(
    office: Office, is_heard: bool
) -> None:
    async def claim() -> None:
        office.latest = {"sent_data_ns": 0, "received_ns": 0}
        office.preference = office.make()
        async with running(office):
            office.be_on("udp")
            for _ in range(8):
                office.latest["sent_data_ns"] = int(office.now_s * 1e9)
                if is_heard:
                    office.latest["received_ns"] = office.latest["sent_data_ns"]
                await office.pass_s(0.5)
            assert (bool(office.doubted), office.wants_stream) == (not is_heard, not is_heard)

    run(claim())
