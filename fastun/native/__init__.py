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
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from fastun.native import _fastun  # type: ignore[attr-defined]  # made by the build

_ffi: Any = _fastun.ffi
_lib: Any = _fastun.lib

# More than any kernel's struct tcp_info so far (280 in Linux 6.18); what it has, it returns.
_TCP_INFO_BYTES = 512

_IPV4_VERSION = 4


class Wire(IntEnum):
    """The message formats of csrc/packet/encapsulation.h."""

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
GATEWAY_COUNTERS = int(_lib.GATEWAY_COUNTERS)
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
    return bool(_lib.aead_has_aes_instructions())


def sealing_library() -> str:
    """Return the name of the library that seals; "" when none can."""
    return str(_ffi.string(_lib.aead_library_name()).decode())


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


@dataclass(frozen=True, slots=True)
class UdpAddress:
    """Where a peer is on UDP: ``struct udp_address`` of csrc/fastun.h.

    ``local`` is our address that the peer sends to, None where it is not known. ``zone`` is the
    interface of a link-local address, else 0.
    """

    host: IPv4Address | IPv6Address
    port: int
    socket_index: int = 0
    zone: int = 0
    local: IPv4Address | IPv6Address | None = None
    local_zone: int = 0

    @classmethod
    def unpack(cls, packed: bytes) -> UdpAddress:
        """Return what C's bytes say."""
        native = _ffi.from_buffer("struct udp_address *", packed)
        local = bytes(native.local)
        return cls(
            _host(native.family, bytes(native.address)),
            native.port,
            native.socket_index,
            native.zone,
            _host(native.family, local) if any(local) else None,
            native.local_zone,
        )

    def pack(self) -> bytes:
        """Return the bytes for C."""
        native = _ffi.new("struct udp_address *")
        is_ipv4 = self.host.version == _IPV4_VERSION
        native.socket_index = self.socket_index
        native.family = _lib.UDP_ADDRESS_IPV4 if is_ipv4 else _lib.UDP_ADDRESS_IPV6
        native.port = self.port
        native.address = self.host.packed.ljust(16, b"\0")
        native.zone = self.zone
        native.local = (b"" if self.local is None else self.local.packed).ljust(16, b"\0")
        native.local_zone = self.local_zone
        return bytes(_ffi.buffer(native))

    def __str__(self) -> str:
        """Return ``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in str(self.host) else f"{self.host}:{self.port}"


def _host(family: int, packed: bytes) -> IPv4Address | IPv6Address:
    return IPv4Address(packed[:4]) if family == _lib.UDP_ADDRESS_IPV4 else IPv6Address(packed)


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
            _lib.ring_doorbell_producer(self.pointer)
        else:
            _lib.ring_doorbell_consumer(self.pointer)

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

    def endpoint(self, slot: int) -> UdpAddress | None:
        """Return where the slot's peer was last heard on UDP."""
        native = _ffi.new("struct udp_address *")
        if not _lib.peer_table_endpoint(self.pointer, slot, native):
            return None
        return UdpAddress.unpack(bytes(_ffi.buffer(native)))

    def clear(self, slot: int) -> None:
        """Zero a slot that gets a new owner."""
        _lib.peer_table_clear(self.pointer, slot)

    def close(self) -> None:
        """Unmap, and close the memfd if this object made it."""
        _lib.peer_table_detach(self.pointer)
        self.pointer = _ffi.NULL
        if self.fd >= 0:
            os.close(self.fd)
