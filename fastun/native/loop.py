"""The typed wall around the workers' C loops; see fastun.native for the rest of the C library."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any

import msgspec

from fastun.native.counters import CounterSource, ReplayMarks, SendingCounters
from fastun.native.keys import KeyArea, KeyName
from fastun.native.lanes import Crossing
from fastun.native.library import checked, checked_pointer, ffi, lib
from fastun.native.shared import MacTable, PeerTable, Ring, Stats
from fastun.native.vocabulary import ROLES, Aead, Joins, Mode, Offload, Waiting, Wire


class LoopEnd(IntEnum):
    """Why a worker's loop returned."""

    DOORBELL = lib.LOOP_DOORBELL
    EVENT = lib.LOOP_EVENT
    DEVICE_GONE = lib.LOOP_DEVICE_GONE


class EventKind(IntEnum):
    """What a loop reports about a link or a peer."""

    LINK_CLOSED = lib.EVENT_LINK_CLOSED
    LINK_FAULT = lib.EVENT_LINK_FAULT
    LINK_ERROR = lib.EVENT_LINK_ERROR
    STREAM_HANDSHAKE = lib.EVENT_STREAM_HANDSHAKE
    UDP_HANDSHAKE = lib.EVENT_UDP_HANDSHAKE
    CONTROL = lib.EVENT_CONTROL
    CONFIRMED = lib.EVENT_CONFIRMED
    NO_SESSION = lib.EVENT_NO_SESSION
    TOO_LONG = lib.EVENT_TOO_LONG
    REFUSAL = lib.EVENT_REFUSAL


class RefusalKind(IntEnum):
    """What the kernel may refuse for a peer: ``enum refusal_kind`` of csrc/fastun.h."""

    TRAINS = lib.REFUSED_TRAINS
    TCP_GROUPS = lib.REFUSED_TCP_GROUPS
    UDP_GROUPS = lib.REFUSED_UDP_GROUPS
    DATAGRAMS = lib.REFUSED_DATAGRAMS


class Event(msgspec.Struct, frozen=True):
    """What a loop returned for.

    ``message`` is a handshake's or a control message, ``index`` the session's of a confirmation or
    a control message or a RefusalKind, ``endpoint`` the packed UdpAddress that a datagram came
    from. ``error`` is "" where there is none.
    """

    kind: EventKind
    slot: int
    link_id: int
    index: int
    error: str
    message: bytes
    endpoint: bytes


class SessionMemory(msgspec.Struct, frozen=True):
    """What a worker that seals or opens has of sessions."""

    keys: KeyArea | None = None
    sending: SendingCounters | None = None  # of a tun-reader
    marks: ReplayMarks | None = None  # of a link-reader


class SharedMemory(msgspec.Struct, frozen=True):
    """What a loop shares with the gateway and the other workers of its lane."""

    ring: Ring
    stats: Stats
    peers: PeerTable
    sessions: SessionMemory
    macs: MacTable | None = None  # of a switch
    hairpin: Ring | None = None
    crossing: Crossing | None = None  # of a tun-reader that has others beside it


class Descriptors(msgspec.Struct, frozen=True):
    """What a loop reads, writes and waits for beside links and sockets. They stay the caller's.

    ``device_index``: the device's interface; 0: unknown.
    """

    device: int
    channel: int
    wake: int
    device_index: int = 0
    hairpin_wake: int = -1


class Loop:
    """One worker's C loop. Keeps its memory alive; descriptors stay the caller's."""

    def __init__(
        self,
        role: str,
        memory: SharedMemory,
        fds: Descriptors,
        *,
        wire: Wire,
        mode: Mode,
        waiting: Waiting,
    ) -> None:
        """Prepare the loop of ``role``."""
        self._memory = memory
        self._capture_ring: Ring | None = None
        crossing = ffi.NULL if memory.crossing is None else memory.crossing.native()
        parts = ffi.new(
            "struct loop_parts *",
            {
                "role": ROLES.index(role),
                "wire": wire,
                "mode": mode,
                "ring": memory.ring.pointer,
                "stats": memory.stats.pointer,
                "peers": memory.peers.pointer,
                "sending": _pointer(memory.sessions.sending),
                "marks": _pointer(memory.sessions.marks),
                "device_fd": fds.device,
                "device_index": fds.device_index,
                "channel_fd": fds.channel,
                "wake_fd": fds.wake,
                "macs": _pointer(memory.macs),
                "hairpin": _pointer(memory.hairpin),
                "hairpin_wake_fd": fds.hairpin_wake,
                "crossing": crossing,
                "hands_over": waiting.hands_over,
                "spin_ns": waiting.spin_us * 1000,
            },
        )
        self._pointer = checked_pointer(lib.loop_new(parts))

    def run(self) -> LoopEnd:
        """Run without the GIL until Python has something to do."""
        return LoopEnd(lib.loop_run(self._pointer))

    def error(self) -> str:
        """Return the text of the errno behind DEVICE_GONE."""
        return os.strerror(lib.loop_error(self._pointer))

    def event(self) -> Event:
        """Return what the loop came back for."""
        event = lib.loop_event(self._pointer)
        return Event(
            EventKind(event.kind),
            event.slot,
            event.link_id,
            event.index,
            os.strerror(event.error) if event.error else "",
            bytes(ffi.buffer(event.bytes, event.length)),
            bytes(ffi.buffer(ffi.addressof(event, "endpoint"))),
        )

    def drop_event(self) -> None:
        """Count an event that could not be reported."""
        lib.loop_drop_event(self._pointer)

    def add_socket(self, index: int, fd: int, *, has_offload: bool) -> None:
        """Carry what comes and goes by a UDP socket. Raises OSError."""
        checked(lib.loop_add_socket(self._pointer, index, fd, has_offload))

    def remove_socket(self, index: int) -> None:
        """Use the UDP socket of an index no more. Call before its descriptor is closed."""
        lib.loop_remove_socket(self._pointer, index)

    def set_gate_keys(self, mac1_key: bytes, cookie_key: bytes) -> None:
        """Let only handshake messages on UDP pass that were made for us. Raises OSError.

        A source that sends too many is asked for a cookie, sealed under ``cookie_key``. Both keys
        have 32 bytes.
        """
        checked(lib.loop_set_gate_keys(self._pointer, mac1_key, cookie_key))

    def await_reply(self, slot: int, index: int) -> None:
        """Let cookie replies pass that name ``index``, the last initiation's to the peer."""
        lib.loop_await_reply(self._pointer, slot, index)

    def set_endpoint(self, slot: int, endpoint: bytes, only_by: int = 0) -> None:
        """Say where the peer is on UDP: a packed UdpAddress; ``only_by`` as in SetEndpoint."""
        native = ffi.from_buffer("struct udp_address *", endpoint)
        checked(lib.loop_set_endpoint(self._pointer, slot, native, only_by))

    def set_packet_max(self, slot: int, packet_max: int, whole_max: int = 0) -> None:
        """Refuse packets that are longer; bytes, 0 for any.

        Those longer than ``whole_max`` may be fragmented on their way; 0 for none.
        """
        lib.loop_set_packet_max(self._pointer, slot, packet_max, whole_max)

    def join_pieces(self, slot: int, joins: Joins) -> None:
        """Send in pieces what the peer joins."""
        lib.loop_join_pieces(self._pointer, slot, int(joins))

    def block_link(self, slot: int, *, is_blocked: bool) -> None:
        """Send nothing to the peer on UDP while it is blocked."""
        lib.loop_block_link(self._pointer, slot, is_blocked)

    def hold_without_session(self) -> None:
        """Let the device's queue hold packets for a second while the only session is made."""
        lib.loop_hold_without_session(self._pointer)

    def coalesce(self, offload: Offload) -> None:
        """Let the tun-writer put packets of one flow together, and the link-reader pieces."""
        lib.loop_coalesce(self._pointer, int(offload))

    def clamp_mss(self, mtu: int) -> None:
        """Lower the MSS of TCP connections to what packets of ``mtu`` bytes hold; 0 leaves them."""
        lib.loop_clamp_mss(self._pointer, mtu)

    def capture(self, fds: Sequence[int], order: Any) -> None:
        """Copy what the order says to the descriptor's ring, and close it; without one, stop."""
        ring = Ring.attach_own(fds[0], order.ring_bytes) if fds else None
        for fd in fds:
            os.close(fd)
        pointer = ffi.NULL if ring is None else ring.pointer
        # fmt: off
        checked(
            lib.loop_capture(
                self._pointer, pointer, order.stages, order.slot, order.snap_length,
            )
        )
        # fmt: on
        if self._capture_ring is not None:
            self._capture_ring.close()
        self._capture_ring = ring

    def take_bell(self) -> None:
        """Reset the doorbell; call before reading the channel."""
        lib.loop_take_bell(self._pointer)

    def attach_link(self, slot: int, link_id: int, fd: int, link_format: Any) -> None:
        """Carry the link from now on; -1 where only the format is of interest."""
        native = ffi.new("struct link_format *", msgspec.structs.asdict(link_format))
        checked(lib.loop_attach_link(self._pointer, slot, link_id, fd, native))

    def detach_link(self, slot: int) -> None:
        """Forget the peer's link and keys. Call before the descriptor is closed."""
        lib.loop_detach_link(self._pointer, slot)

    def allow_ip(self, slot: int, address: bytes, prefix_length: int) -> None:
        """Give the peer a network."""
        checked(lib.loop_allow_ip(self._pointer, slot, address, len(address), prefix_length))

    def forget_ip(self, slot: int, address: bytes, prefix_length: int) -> None:
        """Take a network from the peer, unless it is another's by now."""
        checked(lib.loop_forget_ip(self._pointer, slot, address, len(address), prefix_length))

    def forget_ips(self, slot: int) -> None:
        """Remove all networks of the peer."""
        lib.loop_forget_ips(self._pointer, slot)

    def set_ways(
        self, slot: int, lanes: Sequence[int], *, by_flow: bool, sealed_for: Sequence[int] = ()
    ) -> None:
        """Have the peer's frames go to these lanes; to none: to lane 0. Raises OSError."""
        checked(lib.loop_set_ways(self._pointer, slot, bytes(lanes), len(lanes), int(by_flow)))
        checked(lib.loop_set_sealed_for(self._pointer, slot, list(sealed_for), len(sealed_for)))

    def set_rate_limit(self, slot: int, rate: int, burst_bytes: int, *, is_cut_off: bool) -> None:
        """Let so many bytes a second of the peer pass, 0 for any number; cut off: none."""
        checked(lib.loop_set_rate_limit(self._pointer, slot, rate, burst_bytes, int(is_cut_off)))

    def set_reach(self, slot: int, networks: Iterable[tuple[bytes, int]]) -> None:
        """Let the peer send to these networks only; without any, everywhere."""
        lib.loop_clear_reach(self._pointer, slot)
        for address, prefix_length in networks:
            checked(lib.loop_add_reach(self._pointer, slot, address, len(address), prefix_length))

    def set_sending_key(
        self,
        slot: int,
        aead: Aead,
        key: KeyName,
        *,
        receiver_index: int,
        source: CounterSource,
        expires_ns: int,
    ) -> None:
        """Seal with this from now on. Raises OSError (ENOENT: the link or the key has gone)."""
        native = ffi.new("struct counter_source *", msgspec.structs.asdict(source))
        # fmt: off
        checked(
            lib.loop_set_sending_key(
                self._pointer, *self._named(key), slot, aead, receiver_index, native, expires_ns,
            )
        )
        # fmt: on

    def send_keepalive(self, slot: int) -> None:
        """Send an empty message, if there is a key and room."""
        lib.loop_send_keepalive(self._pointer, slot)

    def send_control(self, slot: int, content: bytes) -> None:
        """Send a control message, if there is a key and room."""
        lib.loop_send_control(self._pointer, slot, content, len(content))

    def add_receiving_key(
        self, slot: int, aead: Aead, key: KeyName, *, index: int, counter: int, expires_ns: int
    ) -> None:
        """Open what names ``index``.

        Raises OSError (ENOENT: the key has gone; EEXIST: the index is another peer's).
        """
        # fmt: off
        checked(
            lib.loop_add_receiving_key(
                self._pointer, *self._named(key), slot, aead, index, counter, expires_ns,
            )
        )
        # fmt: on

    def _named(self, key: KeyName) -> tuple[Any, Any]:
        area = _pointer(self._memory.sessions.keys)
        return area, ffi.new("struct key_name *", (key.place, key.generation))

    def take_over_receiving_key(self, slot: int, index: int) -> None:
        """Let the keys that are added for ``index`` open only what a predecessor has not.

        Raises OSError (ENOENT: it has left no mark, so that is unknown).
        """
        checked(lib.loop_take_over_receiving_key(self._pointer, slot, index))

    def forget_receiving_keys(self, slot: int) -> None:
        """Open nothing of the peer's any more."""
        lib.loop_forget_receiving_keys(self._pointer, slot)

    def send_message(self, slot: int, message: bytes) -> None:
        """Put a message of the gateway's on the link, if it is there and has room."""
        lib.loop_send_message(self._pointer, slot, message, len(message))

    def close(self) -> None:
        """Free the loop."""
        lib.loop_free(self._pointer)
        self._pointer = ffi.NULL


def _pointer(memory: Any) -> Any:
    return ffi.NULL if memory is None else memory.pointer
