"""The ring against a naive model: a list of records, and which of them each side has seen.

Either side may be killed and replaced at any step. What was not published has then never been;
what was not released is there again. The indices begin shortly before 2**64, so they wrap too.
Packets are numbered from 0, over all deaths.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

LINE = 64  # records begin on cache lines
HEADER = 56
HEAD_OFFSET, TAIL_OFFSET = 64, 128  # in the shared memory, as drawn in csrc/shared/ring.h


@dataclass(frozen=True)
class Record:
    content: bytes
    headroom: int
    n_packets: int

    @property
    def space(self) -> int:
        return -(-(HEADER + self.headroom + len(self.content)) // LINE) * LINE


class RingMachine(RuleBasedStateMachine):
    """Draws its own C module from `native`, which the test sets on a subclass."""

    native: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.ffi, self.lib = self.native
        self.size = self.lib.RING_SIZE_MIN
        self.filled: list[Record] = []  # published, not released
        self.unpublished: list[Record] = []
        self.n_peeked = 0
        self.n_made = 0
        self.n_released = 0  # packets

    @initialize(lines=st.integers(0, 3 * 2**18 // LINE))
    def open_ring(self, lines: int) -> None:
        fd = self.ffi.new("int *")
        ring = self.lib.ring_create(self.size, fd)
        assert ring != self.ffi.NULL
        self.fd = fd[0]
        self.lib.ring_detach(ring)
        start = struct.pack("<Q", 2**64 - lines * LINE & 2**64 - 1)
        os.pwrite(self.fd, start, HEAD_OFFSET)
        os.pwrite(self.fd, start, TAIL_OFFSET)
        self.stats_fd = self.ffi.new("int *")
        self.stats = self.lib.stats_create(self.stats_fd)
        self.block = self.ffi.addressof(self.stats.parts[0].block)
        self.producer, self.consumer = self.attach(), self.attach()
        self.cursors = [self.lib.ring_first(self.consumer)]  # [i]: in front of filled[i]

    def teardown(self) -> None:
        if hasattr(self, "consumer"):
            self.lib.ring_detach(self.producer)
            self.lib.ring_detach(self.consumer)
            self.lib.stats_detach(self.stats)
            os.close(self.fd)
            os.close(self.stats_fd[0])

    def attach(self) -> Any:
        ring = self.lib.ring_attach(self.fd, self.size)
        assert ring != self.ffi.NULL
        return ring

    def free(self) -> int:
        return self.size - sum(record.space for record in self.filled + self.unpublished)

    def packets_before(self, i: int) -> int:
        return self.n_released + sum(record.n_packets for record in self.filled[:i])

    # -- the producer

    def produce(self, headroom: int, length: int, reserved: int) -> None:
        self.n_made += 1
        record = Record(bytes([self.n_made % 251]) * length, headroom, self.n_made)
        slot = self.lib.ring_reserve(self.producer, reserved)
        if reserved > self.free():
            assert slot == self.ffi.NULL
            return
        assert slot != self.ffi.NULL
        slot.offset, slot.length = HEADER + headroom, length
        slot.n_packets = self.n_made
        self.ffi.memmove(self.lib.ring_payload(slot), record.content, length)
        self.lib.ring_commit(self.producer, slot)
        assert slot.space == record.space
        self.unpublished.append(record)

    @rule(
        headroom=st.integers(0, 100),
        length=st.one_of(st.integers(1, 300), st.integers(1, 66_000)),
        unused=st.sampled_from([0, 1, LINE, 66_000]),
    )
    def commit(self, headroom: int, length: int, unused: int) -> None:
        """The slot may be larger than what is then put into it."""
        self.produce(headroom, length, HEADER + headroom + length + unused)

    @precondition(lambda self: self.free() > 0)
    @rule(short=st.sampled_from([0, LINE]), odd=st.integers(0, LINE - HEADER - 1))
    def commit_to_the_last_byte(self, short: int, odd: int) -> None:
        length = self.free() - short - HEADER - odd
        if length > 0:
            self.produce(0, length, HEADER + length)
            assert self.free() == short

    @rule(over=st.sampled_from([1, LINE, 2**18, 2**40]))
    def reserve_too_much(self, over: int) -> None:
        assert self.lib.ring_reserve(self.producer, self.free() + over) == self.ffi.NULL

    @rule()
    def publish(self) -> None:
        self.lib.ring_publish(self.producer, self.block)
        self.filled += self.unpublished
        self.unpublished = []

    @precondition(lambda self: self.unpublished)
    @rule(
        fraction=st.floats(0, 1),
        bytes_max=st.sampled_from([2**18, 1000]),
        dies=st.sampled_from(["nothing", "the holder", "the consumer", "both"]),
    )
    def hand_over(self, fraction: float, bytes_max: int, dies: str) -> None:
        """The consumer sleeps, and the producer does a part of its work, or dies meanwhile."""
        lib, space = self.lib, sum(record.space for record in self.unpublished)
        holder = self.ffi.new("struct ring *")
        waiter = self.ffi.addressof(self.consumer.shared.consumer)
        lib.waiter_prepare(waiter, lib.WAITER_ON_FUTEX | lib.TOKEN_OFFERED)
        holds = lib.ring_publish_and_take(self.producer, bytes_max, holder, self.block)
        assert holds == (space <= bytes_max)
        self.filled += self.unpublished
        self.unpublished = []
        if holds:
            self.do_as_holder(holder, round(len(self.filled) * fraction))
            if dies in ("nothing", "the consumer"):
                lib.ring_give_back(self.producer, holder, self.block)
        if dies in ("the holder", "both"):
            self.kill_producer()
            assert lib.ring_producer_is_dead(self.producer) == holds
        if dies in ("the consumer", "both"):
            lib.ring_detach(self.consumer)
            self.consumer = self.attach()
        lib.ring_regain(self.consumer, -1)
        assert self.consumer.is_orphaned == (holds and dies in ("the holder", "both"))
        self.consumer.is_orphaned = False
        self.n_peeked, self.cursors = 0, [lib.ring_first(self.consumer)]

    def do_as_holder(self, holder: Any, n: int) -> None:
        cursor = self.ffi.new("uint64_t *", self.lib.ring_first(holder))
        for expected in self.filled[:n]:
            record = self.lib.ring_peek(holder, cursor, self.ffi.new("bool *"))
            assert record != self.ffi.NULL
            assert self.ffi.buffer(record.payload, record.length)[:] == expected.content
        self.n_released = self.packets_before(n)
        self.lib.ring_release(holder, cursor[0], self.block)
        self.filled = self.filled[n:]

    @rule()
    def kill_producer(self) -> None:
        self.lib.ring_detach(self.producer)
        self.producer = self.attach()
        self.unpublished = []
        assert self.producer.n_packets == self.packets_before(len(self.filled))

    # -- the consumer

    @rule(n=st.integers(1, 5))
    def peek(self, n: int) -> None:
        for _ in range(n):
            self.peek_one()

    def peek_one(self) -> None:
        cursor, corrupt = self.ffi.new("uint64_t *", self.cursors[-1]), self.ffi.new("bool *")
        record = self.lib.ring_peek(self.consumer, cursor, corrupt)
        assert not corrupt[0]
        if self.n_peeked == len(self.filled):
            assert record == self.ffi.NULL
            assert cursor[0] == self.cursors[-1]
            return
        expected = self.filled[self.n_peeked]
        assert record != self.ffi.NULL
        assert record.n_packets == expected.n_packets
        assert self.ffi.buffer(record.payload, record.length)[:] == expected.content
        assert cursor[0] == (self.cursors[-1] + expected.space) % 2**64
        self.n_peeked += 1
        self.cursors.append(cursor[0])

    @rule(fraction=st.floats(0, 1))
    def release(self, fraction: float) -> None:
        n = round(self.n_peeked * fraction)
        self.n_released = self.packets_before(n)
        self.lib.ring_release(self.consumer, self.cursors[n], self.block)
        self.filled, self.cursors = self.filled[n:], self.cursors[n:]
        self.n_peeked -= n

    @rule()
    def discard(self) -> None:
        self.lib.ring_discard(self.consumer, self.block)
        self.n_released = self.packets_before(len(self.filled))
        self.filled, self.n_peeked = [], 0
        self.cursors = [self.lib.ring_first(self.consumer)]

    @rule()
    def kill_consumer(self) -> None:
        self.lib.ring_detach(self.consumer)
        self.consumer = self.attach()
        self.n_peeked, self.cursors = 0, self.cursors[:1]
        assert self.lib.ring_first(self.consumer) == self.cursors[0]

    # -- always

    @invariant()
    def the_fill_is_the_models(self) -> None:
        if hasattr(self, "consumer"):
            filled = sum(record.space for record in self.filled)
            assert self.lib.ring_used_bytes(self.consumer) == filled
            assert self.lib.ring_has_unpublished(self.producer) == bool(self.unpublished)
            assert self.lib.ring_released_packets(self.consumer) == self.n_released


def test_the_ring_is_a_list_of_records_for_whoever_attaches(internals: Any) -> None:
    assert internals.ffi.sizeof("struct ring_record") == HEADER
    run_state_machine_as_test(
        type("Machine", (RingMachine,), {"native": internals}),
        settings=settings(max_examples=settings().max_examples // 2, stateful_step_count=60),
    )
