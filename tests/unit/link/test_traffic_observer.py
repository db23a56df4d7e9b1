"""What the timers hear of the peer table: everything once, in the order of its time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.link.traffic_observer import Observer
from fastun.session.timers import Action, PeerTimers

if TYPE_CHECKING:
    from fastun.native import PeerTable

SLOT = 3
TICK_S = 0.5


class Worker:
    """Writes one slot, as tun-reader and link-reader do, in their order."""

    def __init__(self) -> None:
        self.fields: dict[str, int] = {}
        self.table = cast("PeerTable", SimpleNamespace(read=self._read))

    def _read(self, slot: int, field: str) -> int:
        assert slot == SLOT
        return self.fields.get(field, 0)

    def count(self, direction: str, at_s: float, *, is_data: bool = True) -> None:
        self.fields[f"{direction}_ns"] = round(at_s * 1e9)
        if is_data:
            self.fields[f"{direction}_data_ns"] = round(at_s * 1e9)


class Noted:
    """The timers' place: notes what it is said."""

    def __init__(self) -> None:
        self.events: list[tuple[str, float]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda at_s, *_: self.events.append((name.removeprefix("on_"), at_s))

    def take(self) -> list[tuple[str, float]]:
        taken, self.events = self.events, []
        return taken


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def given() -> Noted:
    return Noted()


@pytest.fixture
def observer(worker: Worker, given: Noted) -> Observer:
    return Observer(worker.table, SLOT, cast("PeerTimers", given))


def test_data_is_reported_once_and_as_data(
    worker: Worker, given: Noted, observer: Observer
) -> None:
    worker.count("received", 1.0)
    worker.count("sent", 2.0)
    observer.observe()
    assert given.take() == [("data_received", 1.0), ("data_sent", 2.0)]
    observer.observe()
    assert given.take() == []


def test_what_happened_first_is_reported_first(
    worker: Worker, given: Noted, observer: Observer
) -> None:
    worker.count("sent", 1.0)
    worker.count("received", 2.0)
    observer.observe()
    assert given.take() == [("data_sent", 1.0), ("data_received", 2.0)]


def test_a_keepalive_behind_data_is_one_more_message(
    worker: Worker, given: Noted, observer: Observer
) -> None:
    worker.count("received", 1.0)
    worker.count("received", 3.0, is_data=False)
    worker.count("sent", 2.0)
    worker.count("sent", 4.0, is_data=False)
    observer.observe()
    assert given.take() == [
        ("data_received", 1.0),
        ("data_sent", 2.0),
        ("keepalive_received", 3.0),
        ("keepalive_sent", 4.0),
    ]
    worker.count("received", 5.0, is_data=False)
    observer.observe()
    assert given.take() == [("keepalive_received", 5.0)]


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_data_that_is_being_counted_is_reported_when_it_is_read(
    worker: Worker, given: Noted, observer: Observer, direction: str
) -> None:
    worker.fields[f"{direction}_data_ns"] = 10**9  # our look at the other field was before that
    observer.observe()
    assert given.take() == [(f"data_{direction}", 1.0)]
    worker.count(direction, 1.0)
    observer.observe()
    assert given.take() == []
    worker.count(direction, 2.0, is_data=False)  # the worker is between the two
    observer.observe()
    worker.count(direction, 2.0)
    observer.observe()
    assert given.take()[-1] == (f"data_{direction}", 2.0)


def test_what_was_another_sessions_is_not_reported(
    worker: Worker, given: Noted, observer: Observer
) -> None:
    worker.count("sent", 1.0)
    worker.count("received", 1.5)
    observer.skip()
    observer.observe()
    assert given.take() == []


@pytest.mark.parametrize("reply_after_s", [0.0002, 0.2, 0.499, 0.7])
@pytest.mark.parametrize("asked_at_s", [0.01, 0.26, 0.49])
def test_the_receiver_of_the_last_data_says_once_that_it_lives(
    asked_at_s: float, reply_after_s: float
) -> None:
    """One request and one reply; and neither needs a handshake to learn that the other is there."""
    sides = []
    for is_initiator in (True, False):
        worker, timers = Worker(), PeerTimers()
        timers.on_handshake_complete(100.0, is_initiator=is_initiator)
        timers.on_keepalive_sent(100.0)
        sides.append((worker, timers, Observer(worker.table, SLOT, timers)))
    (asks, _, _), (replies, _, _) = sides
    said: list[tuple[str, int]] = []
    for tick in range(80):
        now_s = 100.0 + tick * TICK_S
        for at_s, sender, receiver in (
            (100 + asked_at_s, asks, replies),
            (100 + asked_at_s + reply_after_s, replies, asks),
        ):
            if now_s - TICK_S < at_s <= now_s:
                sender.count("sent", at_s)
                receiver.count("received", at_s + 1e-4)
        for who, (worker, timers, observer) in enumerate(sides):
            observer.observe()
            for action in timers.due(now_s):
                said.append((action.name, who))
                if action is Action.KEEPALIVE:
                    worker.count("sent", now_s, is_data=False)
                    sides[1 - who][0].count("received", now_s + 1e-4, is_data=False)
    assert said == [("KEEPALIVE", 0)]


def test_the_timers_hear_how_many_blocks_were_sealed(worker: Worker) -> None:
    timers = PeerTimers(jitter=lambda: 0.0)
    timers.on_handshake_complete(100, is_initiator=False)
    observer = Observer(worker.table, SLOT, timers)
    worker.fields["sealed_blocks"] = timers.constants.rekey_after_blocks
    worker.count("sent", 110)
    observer.observe()
    assert timers.due(110) == [Action.INITIATE]
