"""Handshake messages from UDP: what is worked off or refused, and who has to show a cookie."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun._native import UdpAddress
from fastun.link import handshake_queue
from fastun.link.greeting import SealedGreeter
from fastun.link.handshake_queue import HandshakeQueue
from fastun.peers.roster import Roster
from fastun.session import cookies, noise
from fastun.session.cookies import CookieJar
from fastun.session.messages import MessageType
from fastun.session.refusal import HandshakeError, Refusal
from tests.unit.recording_lane import RecordingLane
from tests.unit.session.parties import CLIENT, SERVER

if TYPE_CHECKING:
    from fastun.link.udp import UdpSockets

ADDRESS = UdpAddress(ip_address("192.0.2.1"), 4711)


class Office:
    """A queue whose deliveries and answers are kept."""

    def __init__(self) -> None:
        self.delivered: list[tuple[MessageType, UdpAddress, bytes]] = []
        self.sent: list[tuple[bytes, UdpAddress]] = []
        self.failures: list[Exception] = []
        roster = Roster(RecordingLane().as_lane())
        self.greeter = SealedGreeter(roster, SERVER, cast("Any", None))
        self.queue = HandshakeQueue(
            SERVER.public, self.greeter, cast("UdpSockets", self), self._deliver
        )

    def send(self, message: bytes, to: UdpAddress) -> None:
        self.sent.append((message, to))

    def _deliver(self, kind: MessageType, address: UdpAddress, message: bytes) -> None:
        self.delivered.append((kind, address, message))
        if self.failures:
            raise self.failures.pop(0)

    def work(self, *messages: bytes) -> None:
        """Put them all, and have them worked off."""

        async def put_all() -> None:
            for message in messages:
                self.queue.put(ADDRESS, message)
            for _ in range(len(messages) + 2):
                await asyncio.sleep(0)

        asyncio.run(put_all())


def initiation(cookie: bytes | None = None) -> bytes:
    return noise.initiate(CLIENT, SERVER.public, cookie=cookie)[0]


def test_messages_are_delivered_in_their_order() -> None:
    office, messages = Office(), [initiation() for _ in range(3)]
    office.work(*messages)
    assert office.delivered == [(MessageType.INITIATION, ADDRESS, m) for m in messages]
    assert office.sent == []


def test_a_full_queue_takes_no_more_until_it_is_worked_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshake_queue, "QUEUE_MAX", 3)
    office = Office()
    replies = [bytes([3, 0, 0, 0, n]).ljust(64) for n in range(5)]
    office.work(*replies)
    assert [message for _, _, message in office.delivered] == replies[:3]
    assert office.greeter.results[Refusal.QUEUE_FULL] == 2
    office.work(replies[4])
    assert len(office.delivered) == 4


def test_what_has_no_mac1_is_counted_and_gets_no_answer() -> None:
    office, bad = Office(), bytearray(initiation())
    bad[120] ^= 1
    office.work(bytes(bad), good := initiation())
    assert [message for _, _, message in office.delivered] == [good]
    assert office.greeter.results[Refusal.BAD_MAC1] == 1
    assert office.sent == []


def test_a_cookie_reply_needs_no_macs() -> None:
    office, reply = Office(), bytes([3, 0, 0, 0]).ljust(64)
    office.work(reply)
    assert office.delivered == [(MessageType.COOKIE_REPLY, ADDRESS, reply)]


@pytest.mark.parametrize(
    "failure", [HandshakeError(Refusal.UNKNOWN_PEER), OSError(101, "no route")]
)
def test_a_message_that_fails_does_not_hold_up_the_next(failure: Exception) -> None:
    office = Office()
    office.failures.append(failure)
    office.work(initiation(), initiation())
    assert len(office.delivered) == 2


def test_under_load_a_sender_has_to_show_a_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake_queue, "QUEUE_MAX", 8)
    office = Office()
    jar = CookieJar(SERVER.public)
    jar.remember_sent(first := initiation())
    office.work(first)
    assert office.delivered == []
    ((reply, to),) = office.sent
    assert to == ADDRESS
    jar.consume_reply(reply, 0.0)
    second = initiation(jar.current(0.0))
    assert cookies.has_valid_mac1(second, SERVER.public)
    office.work(second)
    assert [message for _, _, message in office.delivered] == [second]
    assert len(office.sent) == 1
    assert office.greeter.results[Refusal.BAD_MAC2] == 1


def test_others_have_their_turn_between_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake_queue, "TURN_S", 0.001)
    office = Office()
    turns: list[int] = []

    def deliver(*_: object) -> None:
        office.delivered.append(cast("Any", None))
        time.sleep(0.002)

    queue = HandshakeQueue(SERVER.public, office.greeter, cast("UdpSockets", office), deliver)

    async def put_all() -> None:
        for _ in range(3):
            queue.put(ADDRESS, bytes([3, 0, 0, 0]).ljust(64))
        while len(office.delivered) < 3:
            turns.append(len(office.delivered))
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(put_all(), 5))
    assert turns == [0, 1, 2]
