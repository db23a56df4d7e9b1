"""What a fresh worker gets first: the boot message, and what it maps."""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec import structs

from fastun.lane.crossing import Crossings
from fastun.lane.messages import Boot
from fastun.lane.switch import Switch
from fastun.native import (
    DIRECTIONS,
    KEY_ROLES,
    KeyRegion,
    Mode,
    Offload,
    PeerTable,
    ReplayMarks,
    Ring,
    SendingCounters,
    Stats,
    Waiting,
    Wire,
)


class LanePlan(msgspec.Struct, frozen=True):
    """What a lane's workers do. ``device_fd`` stays the caller's.

    ``holds``: packets wait a moment in the device's queue while slot 0 has no session.
    ``coalesce`` says which super-packets the device may be given of packets that came singly.
    TCP's segments are made to fit packets of ``mss_mtu`` bytes, 0 leaves them. ``switches``: a TAP
    device has many peers. ``secret_keys``: sessions' keys are in memory that nothing else can read.
    ``device_index``: the device's interface, which a worker, with no socket to ask by, cannot find.
    ``lanes_at_once``: all are open from the start, and none waits for a load that is worth it.
    """

    device_fd: int
    wire: Wire
    mode: Mode
    holds: bool = False
    coalesce: Offload = Offload.NONE
    mss_mtu: int = 0
    switches: bool = False
    secret_keys: bool = False
    waiting: Waiting = Waiting(hands_over=True)
    device_index: int = 0
    lanes_at_once: bool = False


class Booting(Protocol):
    """A lane, as far as a worker gets it."""

    index: int
    plan: LanePlan
    rings: dict[str, Ring]
    stats: Stats
    peers: PeerTable
    keys: KeyRegion
    sending: SendingCounters
    marks: ReplayMarks
    switch: Switch | None
    crossings: Crossings | None
    wake_fds: dict[str, int]


def boot_of(lane: Booting, role: str) -> tuple[Boot, tuple[int, ...]]:
    """Return what the worker of this role gets, and the descriptors, which stay the lane's."""
    plan, ring = lane.plan, lane.rings[DIRECTIONS[role]]
    boot = Boot(
        ring_bytes=ring.size_bytes,
        wire=plan.wire,
        mode=plan.mode,
        holds=plan.holds,
        coalesce=plan.coalesce,
        mss_mtu=plan.mss_mtu,
        waiting=plan.waiting,
        secret_keys=lane.keys.is_secret,
        device_index=plan.device_index,
    )
    fds: tuple[int, ...] = (
        lane.stats.fd,
        ring.fd,
        lane.peers.fd,
        plan.device_fd,
        lane.wake_fds[DIRECTIONS[role]],
    )
    if role in KEY_ROLES and plan.wire == Wire.WIREGUARD:
        fds += (lane.keys.fd(role),)
        fds += (lane.sending.fd if role == "tun-reader" else lane.marks.fd,)
    if lane.switch is not None and role in Switch.ROLES:
        boot = structs.replace(boot, hairpin_bytes=lane.switch.hairpin.size_bytes)
        fds += lane.switch.descriptors()
    if lane.crossings is not None and role == "tun-reader":
        lanes = (lane.index, lane.crossings.n_lanes, lane.crossings.spreads)
        boot = structs.replace(boot, lanes=lanes)
        fds += lane.crossings.descriptors(lane.index)
    return boot, fds
