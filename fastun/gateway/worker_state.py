"""What each worker is doing at one moment: idle, busy or blocked.

    device --> tun-reader --[ring]--> link-writer --> sockets
    device <-- tun-writer <--[ring]-- link-reader <-- sockets

A worker is judged by the queues before and after it, and not by its processor time: it has work
while something waits before it, and is blocked while it has work and what comes after it is full.
So in a chain that is limited by one stage, that stage is busy, those before it are blocked and
those after it idle, whatever makes it slow. The average over many snapshots is the share of time.
"""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["idle", "busy", "blocked"]

STATES: tuple[State, ...] = ("idle", "busy", "blocked")

# A producer that found the ring full sleeps until a quarter of it is free (csrc/shared/ring.c).
FULL_FROM = 3 / 4


class Backpressure(msgspec.Struct, frozen=True):
    """What is before and after the rings: work in the device and the links, room in the links."""

    device_has_frames: bool
    links_have_bytes: bool
    links_have_room: bool


def state_of(role: str, used_bytes: int, capacity_bytes: int, around: Backpressure) -> State:
    """Return the state of the worker ``role``, whose ring has so many bytes in use."""
    ring_is_full = used_bytes >= FULL_FROM * capacity_bytes
    match role:
        case "tun-reader":
            has_work, is_full = around.device_has_frames, ring_is_full
        case "link-writer":
            has_work, is_full = used_bytes > 0, not around.links_have_room
        case "link-reader":
            has_work, is_full = around.links_have_bytes, ring_is_full
        case _:  # the kernel takes what the tun-writer writes, or refuses it
            has_work, is_full = used_bytes > 0, False
    return "idle" if not has_work else "blocked" if is_full else "busy"
