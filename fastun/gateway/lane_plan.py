"""What the workers are to do, by the settings and by what the device can."""

from __future__ import annotations

import os
from typing import Final

from fastun.config.settings import Settings
from fastun.host.process.gateway_device import GatewayDevice
from fastun.lane.boot import LanePlan
from fastun.native import Waiting, Wire

# With more cores than this a writer spins before it sleeps: it then sees the next record sooner
# than a wake-up takes. With fewer it would keep the others of its tunnel from theirs.
SPIN_ABOVE_CORES: Final = 2
SPIN_US: Final = 30


def plan_of(settings: Settings, device: GatewayDevice) -> LanePlan:
    """Return the plan of each lane; its queue is the first."""
    return LanePlan(
        device.fds[0],
        Wire[settings.wire.upper()],
        device.mode,
        holds=settings.role == "connect" and len(settings.peers) <= 1,
        coalesce=device.offload_max,
        switches=_is_switch(settings),
        waiting=Waiting(
            hands_over=settings.data_path.hand_over,
            spin_us=SPIN_US if len(os.sched_getaffinity(0)) > SPIN_ABOVE_CORES else 0,
        ),
        mss_mtu=settings.mtu if settings.mss_clamp else 0,
        secret_keys=_wants_secret_keys(settings),
        device_index=device.index,
        lanes_at_once=settings.data_path.lanes_at_once,
    )


def _wants_secret_keys(settings: Settings) -> bool:
    """Return whether sessions' keys are to be in memory by memfd_secret.

    While there is any the kernel refuses to hibernate, which is for laptops: those connect.
    """
    wanted = settings.data_path.secret_memory
    return settings.role == "serve" if wanted is None else wanted


def _is_switch(settings: Settings) -> bool:
    """Return whether frames go from peer to peer: what dials one peer has nothing to switch."""
    has_many = settings.role == "serve" or len(settings.peers) > 1
    return settings.mode == "tap" and settings.wire == "wireguard" and has_many
