"""The typed wall around the C library: the only module that knows cffi.

What C returns as NULL or -errno becomes OSError here; enumerations and names come from the C
headers, so each stands in one place. Nothing here touches a packet.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from fastun import _fastun  # type: ignore[attr-defined]  # made by the build

_ffi: Any = _fastun.ffi
_lib: Any = _fastun.lib

# More than any kernel's struct tcp_info so far (280 in Linux 6.18); what it has, it returns.
_TCP_INFO_BYTES = 512


class Wire(IntEnum):
    """The message formats of csrc/message.h."""

    SIMPLETUN = _lib.WIRE_SIMPLETUN
    PLAIN = _lib.WIRE_PLAIN
    WIREGUARD = _lib.WIRE_WIREGUARD


class Mode(IntEnum):
    """What the device carries: IP packets or Ethernet frames."""

    TUN = _lib.MODE_TUN
    TAP = _lib.MODE_TAP


class Offload(IntEnum):
    """Which super-packets the device hands out; each level includes the one before."""

    NONE = _lib.DEVICE_OFFLOAD_NONE
    TCP = _lib.DEVICE_OFFLOAD_TCP
    TCP_UDP = _lib.DEVICE_OFFLOAD_TCP_UDP


class Aead(IntEnum):
    """What data messages are sealed with."""

    CHACHA20_POLY1305 = _lib.AEAD_CHACHA20_POLY1305
    AES_256_GCM = _lib.AEAD_AES_256_GCM


class LoopEnd(IntEnum):
    """Why a worker's loop came back."""

    DOORBELL = _lib.LOOP_DOORBELL
    EVENT = _lib.LOOP_EVENT
    DEVICE_GONE = _lib.LOOP_DEVICE_GONE


class EventKind(IntEnum):
    """What a loop has to tell of a link."""

    LINK_CLOSED = _lib.EVENT_LINK_CLOSED
    LINK_FAULT = _lib.EVENT_LINK_FAULT
    LINK_ERROR = _lib.EVENT_LINK_ERROR
    HANDSHAKE = _lib.EVENT_HANDSHAKE
    CONFIRMED = _lib.EVENT_CONFIRMED


@dataclass(frozen=True, slots=True)
class Event:
    """What a loop returned for; ``message`` for a handshake, ``index`` for a confirmation."""

    kind: EventKind
    slot: int
    link_id: int
    index: int
    error: str
    message: bytes


def _names(count: Callable[[], int], name: Callable[[int], Any]) -> tuple[str, ...]:
    return tuple(_ffi.string(name(index)).decode() for index in range(count()))


@dataclass(frozen=True, slots=True)
class Drop:
    """A reason for which a role drops packets."""

    role: str
    reason: str
    help: str


ROLES = _names(_lib.stats_n_roles, _lib.stats_role_name)
COUNTERS = _names(_lib.stats_n_counters, _lib.stats_counter_name)
CALLS = _names(_lib.stats_n_calls, _lib.stats_call_name)
DROPS = tuple(
    Drop(ROLES[_lib.stats_drop_role(index)], reason, help_text)
    for index, (reason, help_text) in enumerate(
        zip(
            _names(_lib.stats_n_drops, _lib.stats_drop_reason),
            _names(_lib.stats_n_drops, _lib.stats_drop_help),
            strict=True,
        )
    )
)
PEER_FIELDS = _names(_lib.peer_table_n_fields, _lib.peer_table_field_name)
PEER_SLOTS = int(_lib.peer_table_n_slots())
DIRECTIONS = {
    "tun-reader": "outbound",
    "link-writer": "outbound",
    "link-reader": "inbound",
    "tun-writer": "inbound",
}


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def _checked_pointer(pointer: Any) -> Any:
    if pointer == _ffi.NULL:
        raise OSError(_ffi.errno, os.strerror(_ffi.errno))
    return pointer


def device_open(name: str, mode: Mode) -> int:
    """Make (or attach to) the interface and return its descriptor. Raises OSError."""
    return _checked(_lib.device_open(name.encode(), int(mode)))


def device_set_offload(fd: int, offload: Offload) -> None:
    """Choose which super-packets reads return. Raises OSError (EINVAL: the kernel is older)."""
    _checked(_lib.device_set_offload(fd, int(offload)))


def hide_memory() -> None:
    """Keep this process's memory, where keys stand, out of core dumps. Raises OSError."""
    _checked(_lib.process_hide_memory())


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the parent dies. Raises ProcessLookupError when it has already."""
    _checked(_lib.process_die_with_parent(parent_pid))


def has_aes_instructions() -> bool:
    """Return whether AES-256-GCM is fast and safe on this processor."""
    return bool(_lib.seal_has_aes_instructions())


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What the kernel tells of a TCP connection."""

    rtt_s: float
    n_retransmits: int
    notsent_bytes: int


def tcp_info(connection: socket.socket) -> TcpInfo:
    """Return the state of a TCP connection. Any thread. Raises OSError when it is closed."""
    option = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    info = _ffi.new("struct link_tcp_info *")
    _lib.link_tcp_info_decode(option, len(option), info)
    return TcpInfo(info.rtt_us / 1e6, info.n_retransmits, info.notsent_bytes)


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
        fd = _ffi.new("int *")
        pointer = _checked_pointer(_lib.ring_create(size_bytes, fd))
        return cls(pointer, fd[0], size_bytes)

    @classmethod
    def attach(cls, fd: int, size_bytes: int) -> Ring:
        """Map an existing ring; the descriptor stays the caller's."""
        return cls(_checked_pointer(_lib.ring_attach(fd, size_bytes)), -1, size_bytes)

    def used_bytes(self) -> int:
        """Return how much of it waits for the consumer."""
        return int(_lib.ring_used_bytes(self.pointer))

    def ring_doorbell(self, role: str) -> None:
        """Make the worker ``role`` leave its loop and read its channel."""
        if role in ("tun-reader", "link-reader"):
            _lib.ring_ring_producer(self.pointer)
        else:
            _lib.ring_ring_consumer(self.pointer)

    def close(self) -> None:
        """Unmap, and close the memfd if this ring made it."""
        _lib.ring_detach(self.pointer)
        self.pointer = _ffi.NULL
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
        fd = _ffi.new("int *")
        return cls(_checked_pointer(_lib.stats_create(fd)), fd[0])

    @classmethod
    def attach(cls, fd: int) -> Stats:
        """Map existing ones; the descriptor stays the caller's."""
        return cls(_checked_pointer(_lib.stats_attach(fd)), -1)

    def counter(self, role: str, counter: str) -> int:
        """Return one of COUNTERS for one of ROLES."""
        return int(
            _lib.stats_read_counter(self.pointer, ROLES.index(role), COUNTERS.index(counter))
        )

    def calls(self, role: str, call: str) -> int:
        """Return how often ``role`` made the system call ``call``, one of CALLS."""
        return int(_lib.stats_read_call(self.pointer, ROLES.index(role), CALLS.index(call)))

    def drops(self) -> Iterator[tuple[Drop, int]]:
        """Yield every drop reason with the packets dropped for it."""
        for index, drop in enumerate(DROPS):
            yield drop, int(_lib.stats_read_drop(self.pointer, index))

    def batch_frames(self, role: str) -> tuple[list[int], int]:
        """Return the counts of batches by frames (bucket i: up to 2**i) and the sum of frames."""
        index = ROLES.index(role)
        buckets = range(_lib.stats_n_batch_buckets())
        return (
            [int(_lib.stats_read_batch_frames(self.pointer, index, i)) for i in buckets],
            int(_lib.stats_read_batch_frames_sum(self.pointer, index)),
        )

    def queue_delay(self, role: str) -> tuple[list[int], int]:
        """Return the counts of frames by delay (bucket i: up to 2**i us) and the sum in ns."""
        index = ROLES.index(role)
        buckets = range(_lib.stats_n_delay_buckets())
        return (
            [int(_lib.stats_read_queue_delay(self.pointer, index, i)) for i in buckets],
            int(_lib.stats_read_queue_delay_sum_ns(self.pointer, index)),
        )

    def close(self) -> None:
        """Unmap, and close the memfd if this object made it."""
        _lib.stats_detach(self.pointer)
        self.pointer = _ffi.NULL
        if self.fd >= 0:
            os.close(self.fd)


class PeerTable:
    """What is counted by peer slot, in shared memory; reading takes no lock."""

    def __init__(self, pointer: Any, fd: int) -> None:
        """Use :meth:`create` or :meth:`attach`."""
        self.pointer = pointer
        self.fd = fd

    @classmethod
    def create(cls) -> PeerTable:
        """Make a table of zeros."""
        fd = _ffi.new("int *")
        return cls(_checked_pointer(_lib.peer_table_create(fd)), fd[0])

    @classmethod
    def attach(cls, fd: int) -> PeerTable:
        """Map an existing one; the descriptor stays the caller's."""
        return cls(_checked_pointer(_lib.peer_table_attach(fd)), -1)

    def read(self, slot: int, field: str) -> int:
        """Return one of PEER_FIELDS of a slot."""
        return int(_lib.peer_table_read(self.pointer, slot, PEER_FIELDS.index(field)))

    def clear(self, slot: int) -> None:
        """Zero a slot that gets a new owner."""
        _lib.peer_table_clear(self.pointer, slot)

    def close(self) -> None:
        """Unmap, and close the memfd if this object made it."""
        _lib.peer_table_detach(self.pointer)
        self.pointer = _ffi.NULL
        if self.fd >= 0:
            os.close(self.fd)


class Loop:
    """One worker's C loop. Keeps its memory alive; descriptors stay the caller's."""

    def __init__(
        self,
        role: str,
        ring: Ring,
        stats: Stats,
        peers: PeerTable,
        *,
        wire: int,
        mode: int,
        device_fd: int,
        channel_fd: int,
        wake_fd: int,
    ) -> None:
        """Prepare the loop of ``role``."""
        self._memory = (ring, stats, peers)
        # fmt: off
        self._pointer = _checked_pointer(
            _lib.loop_new(
                ROLES.index(role), wire, mode, ring.pointer, stats.pointer, peers.pointer,
                device_fd, channel_fd, wake_fd,
            )
        )
        # fmt: on

    def run(self) -> LoopEnd:
        """Run without the GIL until Python has something to do."""
        return LoopEnd(_lib.loop_run(self._pointer))

    def error(self) -> str:
        """Return the text of the errno behind DEVICE_GONE."""
        return os.strerror(_lib.loop_error(self._pointer))

    def event(self) -> Event:
        """Return what the loop came back for."""
        event = _lib.loop_event(self._pointer)
        return Event(
            EventKind(event.kind),
            event.slot,
            event.link_id,
            event.index,
            os.strerror(event.error),
            bytes(_ffi.buffer(event.bytes, event.length)),
        )

    def hold_without_session(self) -> None:
        """Let the device's queue hold packets for a second while the only session is made."""
        _lib.loop_hold_without_session(self._pointer)

    def coalesce(self, offload: Offload) -> None:
        """Let the tun-writer put packets of one flow together to such super-packets."""
        _lib.loop_coalesce(self._pointer, int(offload))

    def take_bell(self) -> None:
        """Reset the doorbell; call before reading the channel."""
        _lib.loop_take_bell(self._pointer)

    def attach_link(self, slot: int, link_id: int, fd: int, link_format: Any) -> None:
        """Carry the link from now on; -1 where only the format is of interest."""
        native = _ffi.new(
            "struct link_format *",
            (
                link_format.wire,
                link_format.mode,
                link_format.super_outbound,
                link_format.super_inbound,
                link_format.message_max,
            ),
        )
        _checked(_lib.loop_attach_link(self._pointer, slot, link_id, fd, native))

    def detach_link(self, slot: int) -> None:
        """Forget the peer's link and keys. Call before the descriptor is closed."""
        _lib.loop_detach_link(self._pointer, slot)

    def allow_ip(self, slot: int, address: bytes, prefix_length: int) -> None:
        """Give the peer a network."""
        _checked(_lib.loop_allow_ip(self._pointer, slot, address, len(address), prefix_length))

    def forget_ips(self, slot: int) -> None:
        """Take all networks of the peer."""
        _lib.loop_forget_ips(self._pointer, slot)

    def set_sending_key(
        self, slot: int, aead: int, key: bytes, *, receiver_index: int, counter: int
    ) -> None:
        """Seal with this from now on. Raises OSError (ENOENT: the link has gone)."""
        _checked(_lib.loop_set_sending_key(self._pointer, slot, aead, key, receiver_index, counter))

    def send_keepalive(self, slot: int) -> None:
        """Send an empty message, if there is a key and room."""
        _lib.loop_send_keepalive(self._pointer, slot)

    def add_receiving_key(self, slot: int, aead: int, key: bytes, index: int, counter: int) -> None:
        """Open what names ``index``. Raises OSError (ENOENT: the link has gone)."""
        _checked(_lib.loop_add_receiving_key(self._pointer, slot, aead, key, index, counter))

    def send_message(self, slot: int, message: bytes) -> None:
        """Put a handshake message on the link, if it is there and has room."""
        _lib.loop_send_message(self._pointer, slot, message, len(message))

    def close(self) -> None:
        """Free the loop."""
        _lib.loop_free(self._pointer)
        self._pointer = _ffi.NULL
