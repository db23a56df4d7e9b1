"""What gateway and workers share: the rings, the statistics, the peer table."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from fastun.native.address import UdpAddress
from fastun.native.library import checked_pointer, ffi, lib
from fastun.native.vocabulary import (
    CALLS,
    COUNTERS,
    DROPS,
    MACS_OWN_MAX,
    PEER_FIELDS,
    ROLES,
    Drop,
)

# What is in shared memory, a worker in an attacker's hands may have written. No true count is as
# large, and sums of some still fit what they are packed, stored and sent as.
COUNT_MAX: Final = (1 << 62) - 1


def bounded(count: int) -> int:
    """Return a count, or a sum of counts, of COUNT_MAX at most."""
    return min(count, COUNT_MAX)


class Ring:
    """One ring's memory, mapped. ``fd`` is its memfd, or -1 when it was only attached to."""

    def __init__(self, pointer: Any, fd: int, size_bytes: int) -> None:
        """Use :meth:`create` or :meth:`attach`."""
        self.pointer = pointer
        self.fd = fd
        self.size_bytes = size_bytes

    @classmethod
    def create(cls, size_bytes: int) -> Ring:
        """Make a ring of ``size_bytes``, a power of two."""
        fd = ffi.new("int *")
        pointer = checked_pointer(lib.ring_create(size_bytes, fd))
        return cls(pointer, fd[0], size_bytes)

    @classmethod
    def attach(cls, fd: int, size_bytes: int) -> Ring:
        """Map an existing ring; the descriptor stays the caller's."""
        return cls(checked_pointer(lib.ring_attach(fd, size_bytes)), -1, size_bytes)

    @classmethod
    def attach_own(cls, fd: int, size_bytes: int) -> Ring:
        """Map one that the gateway has made, in a confined worker: nothing is checked."""
        return cls(checked_pointer(lib.ring_attach_own(fd, size_bytes)), -1, size_bytes)

    def used_bytes(self) -> int:
        """Return how much of it waits for the consumer."""
        return int(lib.ring_used_bytes(self.pointer))

    def ring_doorbell(self, role: str) -> None:
        """Make the worker ``role`` leave its loop and read its channel."""
        if role in ("tun-reader", "link-reader"):
            lib.ring_doorbell_producer(self.pointer)
        else:
            lib.ring_doorbell_consumer(self.pointer)

    def free_token(self, role: str) -> bool:
        """Return the consumer's token, if the reaped worker ``role`` had it.

        True where ``role`` is the producer: the consumer may wait for it on its eventfd.
        """
        is_producer = role in ("tun-reader", "link-reader")
        if is_producer:
            lib.ring_producer_is_dead(self.pointer)
        return is_producer

    def close(self) -> None:
        """Unmap, and close the memfd if this ring made it."""
        lib.ring_detach(self.pointer)
        self.pointer = ffi.NULL
        if self.fd >= 0:
            os.close(self.fd)


class Stats:
    """The counters of one lane's four workers, in shared memory; reading takes no lock."""

    def __init__(self, pointer: Any, fd: int) -> None:
        """Use :meth:`create` or :meth:`attach`."""
        self.pointer = pointer
        self.fd = fd

    @classmethod
    def create(cls) -> Stats:
        """Make a zeroed block a role."""
        fd = ffi.new("int *")
        return cls(checked_pointer(lib.stats_create(fd)), fd[0])

    @classmethod
    def attach(cls, fd: int, writers: Sequence[str]) -> Stats:
        """Map existing ones; the descriptor stays the caller's.

        Only the blocks of the roles ``writers`` can be written by this process.
        """
        return cls(checked_pointer(lib.stats_attach(fd, _bits(writers))), -1)

    def counter(self, role: str, counter: str) -> int:
        """Return one of COUNTERS for one of ROLES."""
        return bounded(
            lib.stats_read_counter(self.pointer, ROLES.index(role), COUNTERS.index(counter))
        )

    def calls(self, role: str, call: str) -> int:
        """Return how often ``role`` made the system call ``call``, one of CALLS."""
        return bounded(lib.stats_read_call(self.pointer, ROLES.index(role), CALLS.index(call)))

    def take_forbidden_call(self, role: str) -> int | None:
        """Return and forget the number of the system call by which ``role`` broke its filter."""
        number = int(lib.stats_take_forbidden_call(self.pointer, ROLES.index(role)))
        return None if number < 0 else number

    def drops(self) -> Iterator[tuple[Drop, int]]:
        """Yield every drop reason with the packets dropped for it."""
        for index, drop in enumerate(DROPS):
            yield drop, bounded(lib.stats_read_drop(self.pointer, index))

    def batch_frames(self, role: str) -> tuple[list[int], int]:
        """Return the counts of batches by frames (bucket i: up to 2**i) and the sum of frames."""
        index = ROLES.index(role)
        buckets = range(lib.stats_n_batch_buckets())
        return (
            [bounded(lib.stats_read_batch_frames(self.pointer, index, i)) for i in buckets],
            bounded(lib.stats_read_batch_frames_sum(self.pointer, index)),
        )

    def queue_delay(self, role: str) -> tuple[list[int], int]:
        """Return the counts of frames by delay (bucket i: up to 2**i us) and the sum in ns."""
        index = ROLES.index(role)
        buckets = range(lib.stats_n_delay_buckets())
        return (
            [bounded(lib.stats_read_queue_delay(self.pointer, index, i)) for i in buckets],
            bounded(lib.stats_read_queue_delay_sum_ns(self.pointer, index)),
        )

    def close(self) -> None:
        """Unmap, and close the memfd if this object made it."""
        lib.stats_detach(self.pointer)
        self.pointer = ffi.NULL
        if self.fd >= 0:
            os.close(self.fd)


class PeerTable:
    """What is counted by peer slot, in shared memory; reading takes no lock."""

    def __init__(self, pointer: Any, fd: int) -> None:
        """Use :meth:`create` or :meth:`attach`."""
        self.pointer = pointer
        self.fd = fd
        self._endpoints: dict[int, UdpAddress] = {}

    @classmethod
    def create(cls) -> PeerTable:
        """Make a table of zeros."""
        fd = ffi.new("int *")
        return cls(checked_pointer(lib.peer_table_create(fd)), fd[0])

    @classmethod
    def attach(cls, fd: int, writers: Sequence[str]) -> PeerTable:
        """Map an existing one, as for Stats."""
        return cls(checked_pointer(lib.peer_table_attach(fd, _bits(writers))), -1)

    def read(self, slot: int, field: str) -> int:
        """Return one of PEER_FIELDS of a slot."""
        return bounded(lib.peer_table_read(self.pointer, slot, PEER_FIELDS.index(field)))

    def endpoint(self, slot: int) -> UdpAddress | None:
        """Return where the slot's peer was last heard on UDP; None also for what nothing can be.

        The link-reader writes there, also one in an attacker's hands.
        """
        native = ffi.new("struct udp_address *")
        if not lib.peer_table_endpoint(self.pointer, slot, native):
            return None
        try:
            found = UdpAddress.unpack(bytes(ffi.buffer(native)))
        except ValueError:
            return None
        # The same object as before, if it is the same place: several remember it.
        if self._endpoints.get(slot) != found:
            self._endpoints[slot] = found
        return self._endpoints[slot]

    def clear(self, slot: int) -> None:
        """Zero a slot that gets a new owner."""
        self._endpoints.pop(slot, None)
        lib.peer_table_clear(self.pointer, slot)

    def close(self) -> None:
        """Unmap, and close the memfd if this object made it."""
        lib.peer_table_detach(self.pointer)
        self.pointer = ffi.NULL
        if self.fd >= 0:
            os.close(self.fd)


class MacTable:
    """Which Ethernet addresses are behind which peer slot, in shared memory; no lock."""

    def __init__(self, pointer: Any, fd: int) -> None:
        """Use :meth:`create` or :meth:`attach`."""
        self.pointer = pointer
        self.fd = fd

    @classmethod
    def create(cls) -> MacTable:
        """Make an empty one."""
        fd = ffi.new("int *")
        return cls(checked_pointer(lib.mac_table_create(fd)), fd[0])

    @classmethod
    def attach(cls, fd: int) -> MacTable:
        """Map an existing one; the descriptor stays the caller's."""
        return cls(checked_pointer(lib.mac_table_attach(fd)), -1)

    def set_own(self, addresses: Sequence[bytes]) -> None:
        """Let no peer have these addresses, the first MACS_OWN_MAX of them."""
        for place in range(MACS_OWN_MAX):
            own = addresses[place] if place < len(addresses) else ffi.NULL
            lib.mac_table_set_own(self.pointer, place, own)

    def behind(self, slot: int, most: int) -> tuple[int, list[MacAddress]]:
        """Return how many addresses were seen lately behind the slot, and the first ones."""
        keys = ffi.new("uint64_t[]", max(1, most))
        now_ns = time.monotonic_ns()
        n = int(lib.mac_table_list(self.pointer, slot, now_ns, keys, most))
        return n, [_mac_address(keys[i]) for i in range(min(n, most))]

    def close(self) -> None:
        """Unmap, and close the memfd if this object made it."""
        lib.mac_table_detach(self.pointer)
        self.pointer = ffi.NULL
        if self.fd >= 0:
            os.close(self.fd)


class MacAddress(NamedTuple):
    """An Ethernet address, and the VLAN where it was seen; 0: untagged."""

    address: str
    vlan: int


def _mac_address(key: int) -> MacAddress:
    """Read a key of csrc/packet/mac_key.h."""
    return MacAddress((key & (1 << 48) - 1).to_bytes(6, "big").hex(":"), key >> 48 & 0xFFF)


def _bits(roles: Sequence[str]) -> int:
    return sum(1 << ROLES.index(role) for role in roles)
