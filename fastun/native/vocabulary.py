"""What C and Python both speak of: enumerations, limits and names, all from the C headers."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Any

import msgspec

from fastun.native.library import ffi, lib


class Wire(IntEnum):
    """The message formats of csrc/packet/encapsulation.h."""

    SIMPLETUN = lib.WIRE_SIMPLETUN
    PLAIN = lib.WIRE_PLAIN
    WIREGUARD = lib.WIRE_WIREGUARD


class Mode(IntEnum):
    """What the device carries: IP packets or Ethernet frames."""

    TUN = lib.MODE_TUN
    TAP = lib.MODE_TAP


class Offload(IntEnum):
    """Which super-packets the device hands out; each level includes the one before."""

    NONE = lib.DEVICE_OFFLOAD_NONE
    TCP = lib.DEVICE_OFFLOAD_TCP
    TCP_UDP = lib.DEVICE_OFFLOAD_TCP_UDP


class Joins(IntFlag):
    """What a peer on UDP joins of pieces: frames in two halves; super-packets."""

    NONE = 0
    FRAMES = lib.JOINS_FRAMES
    SUPER_PACKETS = lib.JOINS_SUPER_PACKETS


class Waiting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the workers of a lane wait for one another.

    ``hands_over``: readers do their sleeping writers' steps, where only a packet or two is under
    way. Before it sleeps, a writer looks for the next record for ``spin_us``.
    """

    hands_over: bool = False
    spin_us: int = 0


class Aead(IntEnum):
    """What data messages are sealed with."""

    CHACHA20_POLY1305 = lib.AEAD_CHACHA20_POLY1305
    AES_256_GCM = lib.AEAD_AES_256_GCM


class CaptureStage(IntEnum):
    """Where packets are captured: csrc/capture.h."""

    DEVICE = lib.CAPTURE_DEVICE
    SEALED = lib.CAPTURE_SEALED
    OPENED = lib.CAPTURE_OPENED


class MessageType(IntEnum):
    """The types of the messages on a link, a u32 little-endian at their beginning."""

    INITIATION = lib.MESSAGE_INITIATION
    RESPONSE = lib.MESSAGE_RESPONSE
    COOKIE_REPLY = lib.MESSAGE_COOKIE
    DATA = lib.MESSAGE_DATA_CHACHA
    DATA_AES = lib.MESSAGE_DATA_AES


# Bytes, but for SOCKETS_MAX; csrc/fastun.h says what each is.
INITIATION_BYTES = int(lib.INITIATION_SIZE)
RESPONSE_BYTES = int(lib.RESPONSE_SIZE)
COOKIE_REPLY_BYTES = int(lib.COOKIE_REPLY_SIZE)
DATA_HEADER_BYTES = int(lib.DATA_HEADER)
DATA_TAG_BYTES = int(lib.DATA_TAG)
DATA_BYTES_MIN = int(lib.DATA_MESSAGE_MIN)
DATA_PADDING_BYTES = int(lib.DATA_PADDING)
MESSAGE_BYTES_MAX = int(lib.MESSAGE_MAX)
SEALED_CONTENT_BYTES_MAX = int(lib.SEALED_CONTENT_MAX)
SIMPLETUN_BYTES_MAX = int(lib.SIMPLETUN_MESSAGE_MAX)
CONTROL_BYTES_MAX = int(lib.EVENT_BYTES_MAX)
CONTROL_TYPE = bytes([lib.MESSAGE_CONTROL]).ljust(lib.MESSAGE_TYPE_LENGTH, b"\0")
SOCKETS_MAX = int(lib.N_SOCKETS)
CAPTURE_SNAP_MAX = int(lib.CAPTURE_SNAP_MAX)
CAPTURE_HEADERS_MAX = int(lib.CAPTURE_HEADERS_MAX)


def _names(count: Callable[[], int], name: Callable[[int], Any]) -> tuple[str, ...]:
    return tuple(ffi.string(name(index)).decode() for index in range(count()))


class Drop(msgspec.Struct, frozen=True):
    """A reason for which a role drops packets."""

    role: str
    reason: str
    help: str


ROLES = _names(lib.stats_n_roles, lib.stats_role_name)
COUNTERS = _names(lib.stats_n_counters, lib.stats_counter_name)
CALLS = _names(lib.stats_n_calls, lib.stats_call_name)
DROPS = tuple(
    Drop(ROLES[lib.stats_drop_role(index)], reason, help_text)
    for index, (reason, help_text) in enumerate(
        zip(
            _names(lib.stats_n_drops, lib.stats_drop_reason),
            _names(lib.stats_n_drops, lib.stats_drop_help),
            strict=True,
        )
    )
)
PEER_FIELDS = _names(lib.peer_table_n_fields, lib.peer_table_field_name)
PEER_SLOTS = int(lib.peer_table_n_slots())
MACS_OWN_MAX = int(lib.mac_table_n_own())
DIRECTIONS = {
    "tun-reader": "outbound",
    "link-writer": "outbound",
    "link-reader": "inbound",
    "tun-writer": "inbound",
}
