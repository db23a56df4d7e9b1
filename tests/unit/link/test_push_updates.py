"""Pushes in the middle of a session: sent when they change, repeated, answered, in order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.config.push import Push
from fastun.lane.messages import SendControl
from fastun.link import push_updates
from fastun.link.hello import Ability
from fastun.link.push_updates import TIMES_MAX, PushUpdates
from fastun.session import clock
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from fastun.link.table import Link, LinkTable

SLOT = 3
ONE, TWO, THREE = (Push(routes=(f"10.{n}.0.0/16",)) for n in (1, 2, 3))


class Side:
    """One gateway with one link; a server pushes `push`."""

    def __init__(self, *, serves: bool, offers: bool = True) -> None:
        abilities = frozenset({Ability.TAKES_PUSH_UPDATES} if offers else ())
        self.push = ONE
        self.taken: list[Push] = []
        self.lane = RecordingLane()
        self.link = cast(
            "Link",
            SimpleNamespace(
                id=7,
                abilities=abilities,
                slotted=SimpleNamespace(pushed=ONE),
                peer_name="ant",
                lane=self.lane,
            ),
        )
        self.links = SimpleNamespace(by_slot={SLOT: self.link})
        self.updates = PushUpdates(
            cast("LinkTable", self.links),
            (lambda _: self.push) if serves else None,
            lambda _, push: self.taken.append(push),
        )

    def sent(self) -> list[bytes]:
        messages = []
        for role, message in self.lane.take():
            assert role == "tun-reader"
            assert isinstance(message, SendControl)
            assert message.slot == SLOT
            messages.append(message.content)
        return messages


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    time = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(clock, "boottime_s", lambda: time.s)
    return time


@pytest.fixture
def server(now: SimpleNamespace) -> Side:
    del now
    return Side(serves=True)


@pytest.fixture
def client(now: SimpleNamespace) -> Side:
    del now
    return Side(serves=False)


def test_what_has_not_changed_is_not_sent(server: Side) -> None:
    server.updates.look()
    assert server.sent() == []


def test_a_change_is_sent_taken_answered_and_not_sent_again(
    server: Side, client: Side, now: SimpleNamespace
) -> None:
    server.push = TWO
    server.updates.look()
    (update,) = server.sent()
    assert client.updates.receive(SLOT, update)
    assert client.taken == [TWO]
    (answer,) = client.sent()
    assert server.updates.receive(SLOT, answer)
    assert server.link.slotted.pushed == TWO
    now.s += 100
    server.updates.tick()
    server.updates.look()
    assert server.sent() == []


def test_what_is_not_answered_is_repeated_ever_less_often_and_then_no_more(
    server: Side, now: SimpleNamespace
) -> None:
    server.push = TWO
    server.updates.look()
    times = []
    for tenth in range(1000):
        now.s = 1000 + tenth / 10
        server.updates.tick()
        times += [round(now.s - 1000) for _ in server.sent()]
    assert times == [0, 1, 3, 7, 15]
    assert len(times) == TIMES_MAX


def test_an_answer_to_an_older_update_does_not_count(server: Side, client: Side) -> None:
    for push in (TWO, THREE):
        server.push = push
        server.updates.look()
    first, second = server.sent()
    client.updates.receive(SLOT, first)
    (answer,) = client.sent()
    server.updates.receive(SLOT, answer)
    assert server.link.slotted.pushed == ONE
    client.updates.receive(SLOT, second)
    server.updates.receive(SLOT, *client.sent())
    assert server.link.slotted.pushed == THREE


def test_a_client_that_has_not_offered_it_gets_none_and_its_next_hello_has_it() -> None:
    server = Side(serves=True, offers=False)
    server.push = TWO
    server.updates.look()
    assert server.sent() == []


def test_a_link_that_has_ended_gets_no_more(server: Side, now: SimpleNamespace) -> None:
    server.push = TWO
    server.updates.look()
    server.sent()
    server.links.by_slot.clear()
    now.s += 10
    server.updates.tick()
    server.updates.look()
    assert server.sent() == []


def test_a_server_takes_no_push(server: Side, client: Side) -> None:
    server.push = TWO
    server.updates.look()
    (update,) = server.sent()
    assert server.updates.receive(SLOT, update)
    assert (server.taken, server.sent()) == ([], [])
    del client


@pytest.mark.parametrize(
    "fields",
    [
        {"routes": ("nonsense",)},
        {"routes": ("10.0.0.0/8",) * 300},
        {"dns": ("; reboot",)},
        {"addresses": ("fe80::1%eth0/64",)},
    ],
)
def test_a_push_that_a_hello_may_not_have_is_not_taken(client: Side, fields: Any) -> None:
    update = push_updates._Update(Push(**fields), 1)  # noqa: SLF001 (no server sends it)
    assert client.updates.receive(SLOT, push_updates.TYPE + push_updates.codec.pack(update))
    assert (client.taken, client.sent()) == ([], [])


@pytest.mark.parametrize("message", [b"", b"\x01", b"\x01\0\0\0\x80", b"\x01\0\0\0\x81\xa1x\x07"])
def test_other_messages_are_left_to_others(client: Side, message: bytes) -> None:
    assert not client.updates.receive(SLOT, message)


@given(st.binary(max_size=200))
def test_no_bytes_are_an_error(message: bytes) -> None:
    side = Side(serves=False)
    side.updates.receive(SLOT, push_updates.TYPE + message)
    assert all(isinstance(push, Push) for push in side.taken)


@given(st.permutations(range(6)))
def test_in_whatever_order_they_come_the_newest_is_the_last_that_is_taken(
    order: list[int],
) -> None:
    """Against a model: of numbers that come, the running maximum is taken."""
    server, client = Side(serves=True), Side(serves=False)
    for n in range(6):
        server.push = Push(routes=(f"10.{n + 10}.0.0/16",))
        server.updates.look()
    sent = server.sent()
    model: list[int] = []
    for n in order:
        client.updates.receive(SLOT, sent[n])
        if not model or n > model[-1]:
            model.append(n)
    assert client.taken == [Push(routes=(f"10.{n + 10}.0.0/16",)) for n in model]
    assert client.taken[-1] == server.push
