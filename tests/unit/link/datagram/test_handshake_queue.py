"""Handshake messages from UDP: what is worked off in turns, and what finds no room."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address
from typing import Any, cast

import pytest

from fastun.link.datagram import handshake_queue
from fastun.link.datagram.handshake_queue import HandshakeQueue
from fastun.link.key_exchange import KeyExchange
from fastun.link.peer_slots import PeerSlots
from fastun.native import UdpAddress
from fastun.session import noise
from fastun.session.messages import MessageType
from fastun.session.refusal import HandshakeError, Refusal
from tests.support.parties import CLIENT, SERVER
from tests.support.recording_lane import RecordingLane

ADDRESS = UdpAddress(ip_address("192.0.2.1"), 4711)


class Office:
    """A queue whose deliveries are kept."""

    def __init__(self) -> None:
        self.delivered: list[tuple[MessageType, UdpAddress, bytes]] = []
        self.failures: list[Exception] = []
        peer_slots = PeerSlots(RecordingLane().as_lane())
        self.exchange = KeyExchange(peer_slots, SERVER, cast("Any", None))
        self.queue = HandshakeQueue(self.exchange, self._deliver)

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


def initiation() -> bytes:
    return noise.initiate(CLIENT, SERVER.public)[0]


def test_messages_are_delivered_in_their_order() -> None:
    office, messages = Office(), [initiation() for _ in range(3)]
    office.work(*messages)
    assert office.delivered == [(MessageType.INITIATION, ADDRESS, m) for m in messages]


def test_a_full_queue_takes_no_more_until_it_is_worked_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshake_queue, "QUEUE_MAX", 3)
    office = Office()
    replies = [bytes([3, 0, 0, 0, n]).ljust(64) for n in range(5)]
    office.work(*replies)
    assert [message for _, _, message in office.delivered] == replies[:3]
    assert office.exchange.results[Refusal.QUEUE_FULL] == 2
    office.work(replies[4])
    assert len(office.delivered) == 4


def test_one_source_has_a_part_of_the_queue_and_gets_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshake_queue, "QUEUE_PER_SOURCE_MAX", 2)
    office = Office()
    other = UdpAddress(ip_address("192.0.2.2"), 4711)
    replies = [bytes([3, 0, 0, 0, n]).ljust(64) for n in range(6)]

    async def put_all() -> None:
        for address, reply in zip([ADDRESS] * 4 + [other], replies, strict=False):
            office.queue.put(address, reply)
        for _ in range(8):
            await asyncio.sleep(0)
        office.queue.put(ADDRESS, replies[5])
        for _ in range(4):
            await asyncio.sleep(0)

    asyncio.run(put_all())
    delivered = [message for _, _, message in office.delivered]
    assert delivered == [replies[0], replies[1], replies[4], replies[5]]
    assert office.exchange.results[Refusal.QUEUE_FULL] == 2


@pytest.mark.parametrize(
    "failure", [HandshakeError(Refusal.UNKNOWN_PEER), OSError(101, "no route")]
)
def test_a_message_that_fails_does_not_hold_up_the_next(failure: Exception) -> None:
    office = Office()
    office.failures.append(failure)
    office.work(initiation(), initiation())
    assert len(office.delivered) == 2


def test_what_is_not_a_message_does_not_hold_up_the_next() -> None:
    office = Office()
    office.work(b"\x01\0\0\0", good := initiation())
    assert [message for _, _, message in office.delivered] == [good]


def test_others_have_their_turn_between_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake_queue, "TURN_S", 0.001)
    office = Office()
    turns: list[int] = []

    def deliver(*_: object) -> None:
        office.delivered.append(cast("Any", None))
        time.sleep(0.002)

    queue = HandshakeQueue(office.exchange, deliver)

    async def put_all() -> None:
        for _ in range(3):
            queue.put(ADDRESS, bytes([3, 0, 0, 0]).ljust(64))
        while len(office.delivered) < 3:
            turns.append(len(office.delivered))
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(put_all(), 5))
    assert turns == [0, 1, 2]


def test_what_nothing_foresaw_of_one_message_keeps_none_of_the_others() -> None:
    """None comes behind them, which would have the queue worked off."""
    office = Office()
    office.failures += [OverflowError("a time that is no date")] * 2
    office.work(*(initiation() for _ in range(3)))
    assert len(office.delivered) == 3
